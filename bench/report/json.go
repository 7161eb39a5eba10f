package report

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"streaming-daemon-go/bench/scenario"
)

// Page is one or more results with all that is needed to make them again.
type Page struct {
	Title   string             `json:"title"`
	Machine Machine            `json:"machine"`
	Command string             `json:"command"`
	Date    time.Time          `json:"date"`
	Results []*scenario.Result `json:"results"`

	Charts []string    `json:"-"` // SVG made by this package; shown first, in HTML only
	Judged [][4]string `json:"-"` // what, at most, measured, met; in HTML only
}

// WriteJSON writes p to a file.
func WriteJSON(path string, p Page) error {
	b, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
