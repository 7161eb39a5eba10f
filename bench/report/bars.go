package report

import (
	"fmt"
	"html"
	"strings"
)

// Bar is one bar of Bars.
type Bar struct {
	Name   string
	Value  float64
	Label  string // after the bar
	Colour string // CSS
}

// Bars is a group of horizontal bars in one unit.
type Bars struct {
	Title string
	Bars  []Bar
}

const (
	barHeight, barGap = 22, 9
	groupTitle        = 34
	barsLeft          = 190 // room for names
	barsRight         = 150 // room for labels
	groupGap          = 14
)

// BarsSVG draws groups under each other, each with a scale of its own.
func BarsSVG(title string, groups []Bars) string {
	height := 44
	for _, g := range groups {
		height += groupTitle + len(g.Bars)*(barHeight+barGap) + groupGap
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 %d %d" role="img" aria-label="%s">`, chartWidth+80, height, html.EscapeString(title))
	b.WriteString(chartStyle)
	fmt.Fprintf(&b, `<rect class="ground" width="%d" height="%d" rx="8"/><text class="title" x="16" y="28">%s</text>`, chartWidth+80, height, html.EscapeString(title))
	y := 44
	for _, g := range groups {
		fmt.Fprintf(&b, `<text class="faint" x="16" y="%d">%s</text>`, y+20, html.EscapeString(g.Title))
		y += groupTitle
		most := 0.0
		for _, bar := range g.Bars {
			most = max(most, bar.Value)
		}
		for _, bar := range g.Bars {
			width := bar.Value / orOne(most) * (chartWidth + 80 - barsLeft - barsRight)
			fmt.Fprintf(&b, `<text text-anchor="end" x="%d" y="%d">%s</text>`, barsLeft-10, y+16, html.EscapeString(bar.Name))
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" rx="3" fill="%s"/>`, barsLeft, y, max(width, 2), barHeight, bar.Colour)
			fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`, barsLeft+max(width, 2)+8, y+16, html.EscapeString(bar.Label))
			y += barHeight + barGap
		}
		y += groupGap
	}
	b.WriteString("</svg>\n")
	return b.String()
}
