package fdtest

import "time"

// SetPatience changes how long NoLeaks waits and gives the way back.
func SetPatience(d time.Duration) (restore func()) {
	was := patience
	patience = d
	return func() { patience = was }
}
