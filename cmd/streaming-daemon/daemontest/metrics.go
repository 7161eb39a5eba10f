package daemontest

import "net/url"

// MetricsAddr is the host:port of its metrics.
func (d *Daemon) MetricsAddr() string {
	d.t.Helper()
	text, _ := d.find("listening", "metrics")["metrics"].(string)
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		d.t.Fatalf("the address of the metrics is %q: %v", text, err)
	}
	return u.Host
}
