package user_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/internal/user"
)

func service(t testing.TB) (*user.Service, *sql.DB) {
	t.Helper()
	db := open(t, testenv.Postgres(t))
	return user.NewService(db, nil, nil), db.SQL
}

func open(t testing.TB, url string) *postgres.DB {
	t.Helper()
	db := testenv.Open(t, postgres.Config{URL: url})
	return db
}

func connect(t testing.TB, url string) *user.Service {
	t.Helper()
	return user.NewService(open(t, url), nil, nil)
}

func add(t testing.TB, db *sql.DB, username, displayName string) string {
	t.Helper()
	u := id.New()
	if _, err := db.Exec(`INSERT INTO users (id, username, display_name, password_hash) VALUES ($1, $2, $3, '!')`, u, username, displayName); err != nil {
		t.Fatal(err)
	}
	return u
}

func names(list []chat.Profile) string {
	var out []string
	for _, u := range list {
		out = append(out, u.Username)
	}
	return strings.Join(out, " ")
}

func TestSearch(t *testing.T) {
	t.Parallel()
	s, db := service(t)
	me := add(t, db, "me.myself", "Anna Myself")
	add(t, db, "anna", "Zoe Zebra")
	add(t, db, "annabel", "Bel")
	add(t, db, "maria", "Maria Anna Huber")
	add(t, db, "joanna", "Jo")
	add(t, db, "percent", "100% sure_thing")
	add(t, db, "hundred", "100 other")
	add(t, db, "umlaut", "Ärzte Straße")
	add(t, db, "johnathan", "Johnathan Appleseed")
	add(t, db, "mick", "Michael Jean-Luc O'Neill")
	add(t, db, "greek", "ΟΔΥΣΣΕΥΣ  Λαέρτης")
	add(t, db, "marks", "Zoé Müller-Lüdenscheidt")
	add(t, db, "viet", "Đức Nguyễn")
	add(t, db, "polish", "Łukasz Żółć")
	add(t, db, "chinese", "王小明")
	add(t, db, "japanese", "山田ガ太郎")
	add(t, db, "korean", "김철수")
	add(t, db, "thai", "สมชาย")
	add(t, db, "wide", "Ｗｉｄｅ Ⅳ ﬁn")
	add(t, db, "danish", "Søren Æbelø")
	add(t, db, "cyrillic", "Фёдор Йод")
	blocked, blocker := add(t, db, "anna.blocked", "X"), add(t, db, "anna.blocker", "X")
	deleted := add(t, db, "anna.deleted", "X")
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2), ($3, $1)`, []any{me, blocked, blocker}},
		{`UPDATE users SET deleted_at = now(), username = 'deleted_x', display_name = 'Deleted user' WHERE id = $1`, []any{deleted}},
		{`UPDATE users SET display_name = 'Renamed Person' WHERE username = 'joanna'`, nil},
	} {
		if _, err := db.Exec(q.sql, q.args...); err != nil {
			t.Fatal(err)
		}
	}
	for q, want := range map[string]string{
		"anna":                "anna maria annabel joanna",
		"ANNA":                "anna maria annabel joanna",
		"  an ":               "anna maria annabel",
		"hub":                 "maria",
		"maria anna":          "maria",
		"anna h":              "maria",
		"uber":                "maria",
		"100%":                "percent hundred",
		"sure_":               "percent",
		"su%":                 "",
		"%%":                  "",
		"__":                  "",
		`\\`:                  "",
		"ärz":                 "umlaut",
		"A\u0308rz":           "umlaut",
		"straße":              "umlaut",
		"jonathan":            "johnathan",
		"applesead":           "johnathan",
		"jonathan appelseed":  "johnathan",
		"johnathan apleseed":  "johnathan",
		"jhonathan":           "johnathan",
		"johnattan appleseet": "johnathan",
		"appleseedes":         "johnathan",
		"micheal":             "mick",
		"MICHEAL":             "mick",
		"luc":                 "mick",
		"jean-l":              "mick",
		"neill":               "mick",
		"o'n":                 "mick",
		"ΟΔΥΣ":                "greek",
		"οδυσσευς λ":          "greek",
		"renamed":             "joanna",
		"person":              "joanna",
		"deleted":             "",
		"nobody at all":       "",
		"zoe":                 "marks anna",
		"Zoé":                 "marks anna",
		"muller":              "marks",
		"zoe muller lud":      "marks",
		"ludenscheidt":        "marks",
		"ludenscheid zoe":     "marks",
		"duc":                 "viet",
		"nguyen duc":          "viet",
		"lukasz zolc":         "polish",
		"jean luc":            "mick",
		"Jean-Luc":            "mick",
		"jean\u2011luc":       "mick",
		"oneill":              "mick",
		"o’neill":             "mick",
		"luc michael":         "mick",
		"huber maria":         "maria",
		"hub an mar":          "maria",
		"huber zoe":           "",
		"小明":                  "chinese",
		"王小":                  "chinese",
		"小 王":                 "chinese",
		"王明":                  "",
		"太郎":                  "japanese",
		"ガ太":                  "japanese",
		"カ太":                  "",
		"철수":                  "korean",
		"ชาย":                 "thai",
		"wide iv":             "wide",
		"fin":                 "wide",
		"soren":               "danish",
		"aebelo":              "danish",
		"федор":               "cyrillic",
		"strasse":             "umlaut",
		"arzte":               "umlaut",
		"' or 1=1 --":         "",
	} {
		query := user.Query{Text: q, Limit: 20}
		var f invalid.Faults
		if query.Check(&f); f.Err() != nil {
			t.Fatal(q, f.Err())
		}
		got, err := s.Search(t.Context(), me, query)
		if err != nil || names(got) != want {
			t.Errorf("%q finds %q, want %q (%v)", q, names(got), want, err)
		}
	}
	got, err := s.Search(t.Context(), me, user.Query{Text: "an", Limit: 2})
	if err != nil || names(got) != "anna maria" {
		t.Errorf("two of them: %q, %v", names(got), err)
	}
}

func TestSearchPlans(t *testing.T) {
	t.Parallel()
	_, db := service(t)
	db.SetMaxOpenConns(1)
	for _, q := range []string{
		`SET statement_timeout = 0`,                              // the load is not what is tested
		`ALTER TABLE users DISABLE TRIGGER users_search_changed`, // a row at a time takes long
		`INSERT INTO users (id, username, display_name, password_hash)
			SELECT gen_random_uuid(), 'user_' || n, 'Given' || n % 500 || ' Family' || n % 900, '!' FROM generate_series(1, 30000) n`,
		`INSERT INTO user_search_terms SELECT t, u.id FROM users u, user_search_terms_of(u.username, u.display_name) t`,
		`INSERT INTO user_search_words SELECT DISTINCT w, user_search_near(w) FROM users u, user_search_words_of(u.username, u.display_name) w`,
		`INSERT INTO user_search_words SELECT 'family' || n, user_search_near('family' || n) FROM generate_series(1000, 21000) n`,
		`ANALYZE users`, `ANALYZE user_search_terms`, `ANALYZE user_search_words`,
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		sql     string
		args    []any
		indexes []string
		seqscan string
	}{
		{user.SearchQueries.ByPrefix, []any{id.New(), []string{"fam", "given"}, 20}, []string{"user_search_terms_pkey", "user_search_terms_user_idx", "users_username_key", "users_pkey"}, "on"},
		{user.SearchQueries.ByWords, []any{id.New(), "family1", []string{"given"}, 20, 2000}, []string{"user_search_terms_pkey", "user_search_terms_user_idx"}, "on"},
		{user.SearchQueries.NearWords, []any{[]string{"familly1"}, 4}, []string{"user_search_words_near_idx"}, "on"},
		// Among so few words reading them all may still be cheaper; that the index fits is what is pinned.
		{user.SearchQueries.SimilarWords, []any{[]string{"familly1"}, 4}, []string{"user_search_words_similar_idx"}, "off"},
	} {
		if _, err := db.Exec(`SET enable_seqscan = ` + c.seqscan); err != nil {
			t.Fatal(err)
		}
		rows, err := db.Query(`EXPLAIN `+c.sql, c.args...)
		if err != nil {
			t.Fatal(err)
		}
		var plan strings.Builder
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan.WriteString(line + "\n")
		}
		_ = rows.Close()
		for _, index := range c.indexes {
			if !strings.Contains(plan.String(), index) {
				t.Errorf("the plan does without %s:\n%s", index, plan.String())
			}
		}
		if strings.Contains(plan.String(), "Seq Scan on user") {
			t.Errorf("the plan reads a whole table:\n%s", plan.String())
		}
	}
}

// However many of the first are hidden, and however often one user is found, the list is as long as it can be.
func TestSearchFillsItsLimit(t *testing.T) {
	t.Parallel()
	s, db := service(t)
	me := add(t, db, "me", "Me")
	for i := range 100 {
		hidden := add(t, db, fmt.Sprintf("anna%03d", i), "Hidden")
		if _, err := db.Exec(`INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, me, hidden); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 {
		add(t, db, fmt.Sprintf("loud%d", i), strings.TrimSpace(strings.Repeat("An ", 16)))
	}
	for i := range 5 {
		add(t, db, fmt.Sprintf("anna_z%d", i), "Shown")
	}
	got, err := s.Search(t.Context(), me, user.Query{Text: "an", Limit: 7})
	if want := "loud0 loud1 loud2 loud3 anna_z0 anna_z1 anna_z2"; err != nil || names(got) != want {
		t.Errorf("found %q, want %q (%v)", names(got), want, err)
	}
}

// A misspelt word is looked for among the words of names that are; a renamed or deleted user is not found by the old ones.
func TestSearchForgetsOldNames(t *testing.T) {
	t.Parallel()
	s, db := service(t)
	me, u := add(t, db, "me", "Me"), add(t, db, "user1", "Bartholomew")
	find := func(q string) string {
		got, err := s.Search(t.Context(), me, user.Query{Text: q, Limit: 5})
		if err != nil {
			t.Fatal(err)
		}
		return names(got)
	}
	if got := find("bartolomew"); got != "user1" {
		t.Errorf("misspelt: %q", got)
	}
	if _, err := db.Exec(`UPDATE users SET display_name = 'Someone Else' WHERE id = $1`, u); err != nil {
		t.Fatal(err)
	}
	if got := find("bartolomew") + find("bartholomew"); got != "" {
		t.Errorf("by the old name: %q", got)
	}
	if got := find("somone"); got != "user1" {
		t.Errorf("by the new name: %q", got)
	}
}
