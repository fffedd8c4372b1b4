package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// podResult has a pod's metrics before and after the load: sums over all labels, without histograms.
type podResult struct {
	URL string `json:"url"`
	// CPUSeconds is of the load, MemoryMiB resident at its end.
	CPUSeconds float64            `json:"cpuSeconds"`
	MemoryMiB  float64            `json:"memoryMiB"`
	Before     map[string]float64 `json:"before"`
	After      map[string]float64 `json:"after"`
}

func pods(urls []string, before, after []map[string]float64) (out []podResult) {
	for i, u := range urls {
		if after[i] == nil {
			continue // it was killed meanwhile
		}
		const cpu, memory = "process_cpu_seconds_total", "process_resident_memory_bytes"
		out = append(out, podResult{u, after[i][cpu] - before[i][cpu], after[i][memory] / (1 << 20), before[i], after[i]})
	}
	return out
}

// scrape reads the metrics of all pods. Of one that does not answer there are none.
func (b *bench) scrape(ctx context.Context) (out []map[string]float64, err error) {
	for _, u := range b.MetricsURLs {
		m, e := b.scrapeOne(ctx, u)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("--metrics-url %s: %w", u, e))
		}
		out = append(out, m)
	}
	return out, err
}

func (b *bench) scrapeOne(ctx context.Context, url string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if b.metricsToken != "" {
		req.Header.Set("Authorization", "Bearer "+b.metricsToken)
	}
	res, err := b.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", res.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for name, f := range families {
		for _, m := range f.Metric {
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				out[name] += m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				out[name] += m.GetGauge().GetValue()
			}
		}
	}
	return out, nil
}
