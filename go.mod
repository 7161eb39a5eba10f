module streaming-daemon-go

go 1.26

require (
	github.com/VictoriaMetrics/metrics v1.42.0
	github.com/cloudwego/netpoll v0.7.2
	golang.org/x/sys v0.49.0
)
