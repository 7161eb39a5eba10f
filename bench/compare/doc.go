// Package compare plays the same scenarios against several targets, side by side.
//
//	round 1:  floor  goroutines  daemon -loops 1 ...      each: paced, churn, storm
//	round 2:  goroutines  daemon -loops 1 ...  floor      (another one begins)
//	...
//	  '--> ratios within each round --> median over the rounds --> RESULTS.md, charts, raw JSON
//
// The targets take turns, because a machine is not the same from one minute to the next: a ratio of two runs that
// follow each other says more than the two figures. What is given is the median of the rounds' ratios, which is not
// the ratio of the medians.
package compare
