package compare

import "fmt"

// Order names the runs of a plan.
func Order(c Config) []string {
	var all []string
	for _, t := range c.plan() {
		all = append(all, fmt.Sprintf("%d %s %s", t.round, t.stage.name, t.spec.Name))
	}
	return all
}
