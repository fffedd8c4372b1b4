package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// settings are a run's, from the command line.
type settings struct {
	Scenario    string        `json:"scenario"`
	URLs        list          `json:"urls"`
	Users       int           `json:"users"`
	Members     int           `json:"members"`
	Groups      int           `json:"groups"`
	InFlight    int           `json:"inFlight"`
	Messages    int           `json:"messages"`
	Rate        float64       `json:"rate"`
	ConnectRate float64       `json:"connectRate"`
	Duration    time.Duration `json:"duration"`
	Warmup      time.Duration `json:"warmup"`
	Drain       time.Duration `json:"drain"`
	Prefix      string        `json:"prefix"`
	Seeded      bool          `json:"seeded"`
	Cleanup     bool          `json:"cleanup"`
	MetricsURLs list          `json:"metricsUrls"`

	databaseURL, jwtSecret, metricsToken, json, report string
	insecure                                           bool
}

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(v string) error {
	*l = append(*l, strings.TrimSuffix(v, "/"))
	return nil
}

// errUsage is returned for a wrong command line, after the fault was printed.
var errUsage = errors.New("usage")

func parse(args []string, out io.Writer) (*settings, error) {
	s := &settings{}
	f := flag.NewFlagSet("parley-bench", flag.ContinueOnError)
	f.SetOutput(out)
	f.Var(&s.URLs, "url", "address of the deployment or of a pod, without /api; may be repeated")
	f.IntVar(&s.Users, "users", 100, "how many users take part (fanout: groups × members)")
	f.IntVar(&s.Members, "members", 100, "fanout, sender, reads: members of a group; presence: friends of each user who connects and disconnects")
	f.IntVar(&s.Groups, "groups", 1, "fanout: how many groups")
	f.IntVar(&s.InFlight, "in-flight", 0, "without --rate, messages at a time; fanout: that some member of a group may still lack (0: 1); sender: without an ack yet (0: 64)")
	f.IntVar(&s.Messages, "messages", 200, "reads: messages that each group has")
	f.Float64Var(&s.Rate, "rate", 0, "messages (reads: rounds) a second in all, sent whether or not the last were answered; 0: each waits for the last")
	f.Float64Var(&s.ConnectRate, "connect-rate", 500, "sockets opened a second")
	f.DurationVar(&s.Duration, "duration", 30*time.Second, "how long the load lasts, the warm-up included")
	f.DurationVar(&s.Warmup, "warmup", 0, "how long of it is left out of latencies and rates")
	f.DurationVar(&s.Drain, "drain", 30*time.Second, "how long what is missing may take to come when nothing else does")
	f.StringVar(&s.Prefix, "prefix", "pb_", "what the names of the users that are made begin with")
	f.StringVar(&s.databaseURL, "database-url", "", "seed users and groups here instead of registering them (or PARLEY_DATABASE_URL)")
	f.StringVar(&s.jwtSecret, "jwt-secret", "", "the deployment's, to make access tokens for who is seeded (or PARLEY_JWT_SECRET)")
	f.BoolVar(&s.Cleanup, "cleanup", false, "remove the users and groups that were made, at the end")
	f.BoolVar(&s.insecure, "insecure", false, "take any certificate")
	f.Var(&s.MetricsURLs, "metrics-url", "address of a pod's metrics, with the path; may be repeated")
	f.StringVar(&s.metricsToken, "metrics-token", "", "token for it (or PARLEY_METRICS_TOKEN)")
	f.StringVar(&s.json, "json", "", "file for the results")
	f.StringVar(&s.report, "report", "", "file for the report, a page of HTML")
	f.Usage = func() {
		var b strings.Builder
		for _, x := range append(scenarios(), scenario{name: "cleanup", about: "removes what earlier runs left: --database-url and --prefix"}) {
			fmt.Fprintf(&b, "  %-9s %s\n", x.name, x.about)
		}
		_, _ = fmt.Fprintf(out, "parley-bench SCENARIO [flags]\n\nScenarios:\n%s\nFlags:\n", b.String())
		f.PrintDefaults()
	}
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		f.Usage()
		if len(args) > 0 && slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
			return nil, flag.ErrHelp
		}
		return nil, errUsage
	}
	s.Scenario = args[0]
	if err := f.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, errUsage
	}
	// Not as the flags' defaults: those are printed.
	s.databaseURL = cmp.Or(s.databaseURL, os.Getenv("PARLEY_DATABASE_URL"))
	s.jwtSecret = cmp.Or(s.jwtSecret, os.Getenv("PARLEY_JWT_SECRET"))
	s.metricsToken = cmp.Or(s.metricsToken, os.Getenv("PARLEY_METRICS_TOKEN"))
	s.Seeded = s.databaseURL != ""
	s.InFlight = cmp.Or(s.InFlight, map[string]int{"sender": 64}[s.Scenario], 1)
	if s.Scenario == "sender" {
		s.Groups = 1
	}
	s.jwtSecret, _, _ = strings.Cut(s.jwtSecret, ",") // the first signs
	return s, s.check(f.Args())
}

var prefixes = regexp.MustCompile(`^[a-z0-9_.]{3,12}$`)

func (s *settings) check(rest []string) error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(len(rest) > 0, "%q is no flag", strings.Join(rest, " "))
	fault(!prefixes.MatchString(s.Prefix), "--prefix must be 3 to 12 of a-z 0-9 _ .")
	if s.Scenario == "cleanup" {
		fault(!s.Seeded, "cleanup needs --database-url")
		return errors.Join(faults...)
	}
	fault(find(s.Scenario) == nil, "there is no scenario %q; parley-bench alone lists them", s.Scenario)
	fault(len(s.URLs) == 0, "--url is missing")
	for _, u := range s.URLs {
		p, err := url.Parse(u)
		fault(err != nil || (p.Scheme != "http" && p.Scheme != "https") || p.Host == "", "--url %s is no http(s) address", u)
	}
	fault(s.Seeded && len(s.jwtSecret) < 32, "with --database-url goes --jwt-secret, of 32 bytes or more")
	fault(s.Users < 3 || s.Members < 1 || s.Groups < 1 || s.InFlight < 0 || s.Messages < 1, "--users must be 3 or more, --members, --groups and --messages 1, and --in-flight not negative")
	fault(s.Rate < 0 || s.ConnectRate <= 0, "--rate must not be negative, and --connect-rate more than 0")
	fault(s.Duration <= 0 || s.Drain <= 0, "--duration and --drain must be more than 0")
	fault(s.Warmup < 0 || s.Warmup >= s.Duration, "--warmup must be shorter than --duration")
	fault(s.Scenario == "mixed" && s.Rate == 0, "mixed needs --rate, the messages a second at noon")
	fault(s.Scenario == "presence" && s.Members > maxWatched*9/10, "presence takes %d --members at most: a socket watches %d", maxWatched*9/10, maxWatched)
	fault(slices.Contains([]string{"reads", "fanout", "sender"}, s.Scenario) && s.Members < 3, "a group has 3 --members or more")
	return errors.Join(faults...)
}
