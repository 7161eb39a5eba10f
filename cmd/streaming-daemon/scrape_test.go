package main_test

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// scraper keeps no connection: each would be a descriptor and two goroutines more in whoever counts them.
var scraper = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

// metricsURL is where the daemon says that its metrics are.
func (d *daemon) metricsURL() string {
	d.t.Helper()
	eventually(d.t, "the address of the metrics", func() bool { return d.log.findAttribute("metrics") != "" })
	return d.log.findAttribute("metrics")
}

// get gives a page of the daemon.
func (d *daemon) get(url string) string {
	d.t.Helper()
	response, err := scraper.Get(url)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		d.t.Fatalf("%s: %s, %v", url, response.Status, err)
	}
	return string(body)
}

// scrape gives every sample, by its name with labels.
func (d *daemon) scrape() map[string]float64 {
	d.t.Helper()
	samples := map[string]float64{}
	scanner := bufio.NewScanner(strings.NewReader(d.get(d.metricsURL())))
	for scanner.Scan() {
		line := scanner.Text()
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			value, err := strconv.ParseFloat(line[at+1:], 64)
			if err != nil {
				d.t.Fatalf("%q: %v", line, err)
			}
			samples[line[:at]] = value
		}
	}
	return samples
}

// metric is one sample, which must be there.
func (d *daemon) metric(name string) float64 {
	d.t.Helper()
	v, ok := d.scrape()[name]
	if !ok {
		d.t.Fatalf("no sample %s", name)
	}
	return v
}

// awaitMetric waits for a value.
func (d *daemon) awaitMetric(name string, want float64) {
	d.t.Helper()
	var got float64
	if !holds(patience, func() bool { got = d.metric(name); return got == want }) {
		d.t.Fatalf("%s is %v, want %v", name, got, want)
	}
}
