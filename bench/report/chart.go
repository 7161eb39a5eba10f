package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Line is one line of a Chart.
type Line struct {
	Name   string
	Colour string // CSS; empty: the next of the palette
	Points [][2]float64
}

// Tick is a labelled place on an axis.
type Tick struct {
	At    float64
	Label string
}

// Chart is a line chart. It is plain SVG with its own style, fit for a page and for a file; it follows the reader's
// choice of a dark or light screen.
type Chart struct {
	Title  string
	XTitle string
	YTitle string
	XTicks []Tick               // nil: round numbers
	YLabel func(float64) string // nil: the number
	YLog   bool                 // values below the smallest tick are drawn on it
	Points bool                 // mark each point
	Lines  []Line
}

// The size of every chart, in SVG units, and the room around the plot.
const (
	chartWidth, chartHeight         = 640, 360
	plotLeft, plotRight             = 74, 20
	plotTop, plotBottom             = 66, 50
	plotWidth, plotHeight           = chartWidth - plotLeft - plotRight, chartHeight - plotTop - plotBottom
	axisTicks                       = 5
	logFloor                float64 = 1e-3
)

// palette has colours that differ for most colour-blind readers (Okabe and Ito), and on light and dark ground.
var palette = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"}

const chartStyle = `<style>
.chart{font:13px system-ui,sans-serif}.chart text{fill:#333}.chart .title{font-size:15px;font-weight:600}
.chart .faint{fill:#777;font-size:12px}.chart .grid{stroke:#ddd}.chart .ground{fill:#fff}
@media(prefers-color-scheme:dark){.chart text{fill:#ddd}.chart .faint{fill:#999}.chart .grid{stroke:#3a3d44}.chart .ground{fill:#1b1d22}}
</style>`

// SVG draws the chart.
func (c Chart) SVG() string {
	var b strings.Builder
	open(&b, c.Title)
	xs, ys := c.ranges()
	for _, t := range ys.ticks(c.YLabel) {
		y := ys.place(t.At, plotTop+plotHeight, plotTop)
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, plotLeft, plotLeft+plotWidth, y, y)
		fmt.Fprintf(&b, `<text class="faint" text-anchor="end" x="%d" y="%.1f">%s</text>`, plotLeft-8, y+4, html.EscapeString(t.Label))
	}
	xTicks := c.XTicks
	if xTicks == nil {
		xTicks = xs.ticks(nil)
	}
	for _, t := range xTicks {
		x := xs.place(t.At, plotLeft, plotLeft+plotWidth)
		fmt.Fprintf(&b, `<text class="faint" text-anchor="middle" x="%.1f" y="%d">%s</text>`, x, plotTop+plotHeight+18, html.EscapeString(t.Label))
	}
	fmt.Fprintf(&b, `<text class="faint" text-anchor="middle" x="%d" y="%d">%s</text>`, plotLeft+plotWidth/2, chartHeight-10, html.EscapeString(c.XTitle))
	fmt.Fprintf(&b, `<text class="faint" x="%d" y="%d">%s</text>`, 12, plotTop-12, html.EscapeString(c.YTitle))
	legendX := float64(chartWidth - plotRight)
	for i := len(c.Lines) - 1; i >= 0; i-- {
		name := c.Lines[i].Name
		legendX -= 8*float64(len([]rune(name))) + 10
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`, legendX, plotTop-12, html.EscapeString(name))
		legendX -= 16
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="12" height="4" rx="2" fill="%s"/>`, legendX, plotTop-18, c.colour(i))
	}
	for i, l := range c.Lines {
		c.draw(&b, l, c.colour(i), xs, ys)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func open(b *strings.Builder, title string) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 %d %d" role="img" aria-label="%s">`,
		chartWidth, chartHeight, html.EscapeString(title))
	b.WriteString(chartStyle)
	fmt.Fprintf(b, `<rect class="ground" width="%d" height="%d" rx="8"/>`, chartWidth, chartHeight)
	fmt.Fprintf(b, `<text class="title" x="12" y="26">%s</text>`, html.EscapeString(title))
}

func (c Chart) colour(i int) string {
	if c.Lines[i].Colour != "" {
		return c.Lines[i].Colour
	}
	return palette[i%len(palette)]
}

func (c Chart) draw(b *strings.Builder, l Line, colour string, xs, ys scale) {
	var path strings.Builder
	for i, p := range l.Points {
		command := 'L'
		if i == 0 {
			command = 'M'
		}
		fmt.Fprintf(&path, "%c%.1f %.1f", command, xs.place(p[0], plotLeft, plotLeft+plotWidth), ys.place(p[1], plotTop+plotHeight, plotTop))
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round"/>`, path.String(), colour)
	if !c.Points {
		return
	}
	for _, p := range l.Points {
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`, xs.place(p[0], plotLeft, plotLeft+plotWidth), ys.place(p[1], plotTop+plotHeight, plotTop), colour)
	}
}

// ranges fits the axes to the points: from 0 up, or from a power of ten to another.
func (c Chart) ranges() (xs, ys scale) {
	xMax, yMax, yMin := 0.0, 0.0, math.Inf(1)
	for _, l := range c.Lines {
		for _, p := range l.Points {
			xMax, yMax = max(xMax, p[0]), max(yMax, p[1])
			if p[1] > 0 {
				yMin = min(yMin, p[1])
			}
		}
	}
	for _, t := range c.XTicks {
		xMax = max(xMax, t.At)
	}
	xs = scale{to: orOne(xMax)}
	ys = scale{to: roundUp(orOne(yMax))}
	if c.YLog {
		yMin = max(min(yMin, yMax), logFloor)
		ys = scale{log: true, from: math.Pow(10, math.Floor(math.Log10(yMin))), to: math.Pow(10, math.Ceil(math.Log10(max(yMax, yMin*10))))}
	}
	return xs, ys
}

func orOne(v float64) float64 {
	if v <= 0 {
		return 1
	}
	return v
}

// scale maps values to places.
type scale struct {
	from, to float64
	log      bool
}

func (s scale) place(v, first, last float64) float64 {
	part := (v - s.from) / (s.to - s.from)
	if s.log {
		part = math.Log(max(v, s.from)/s.from) / math.Log(s.to/s.from)
	}
	return first + part*(last-first)
}

func (s scale) ticks(label func(float64) string) []Tick {
	if label == nil {
		label = plain
	}
	var ticks []Tick
	if s.log {
		for v := s.from; v <= s.to*1.001; v *= 10 {
			ticks = append(ticks, Tick{v, label(v)})
		}
		return ticks
	}
	step := roundUp((s.to - s.from) / axisTicks)
	for v := s.from; v <= s.to*1.001; v += step {
		ticks = append(ticks, Tick{v, label(v)})
	}
	return ticks
}

// roundUp gives the next of 1, 2, 2.5, 5 times a power of ten.
func roundUp(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 5} {
		if v <= m*power*1.0001 {
			return m * power
		}
	}
	return 10 * power
}

func plain(v float64) string {
	if v >= 1000 && v == math.Trunc(v) {
		return fmt.Sprintf("%.4gk", v/1000)
	}
	return fmt.Sprintf("%.4g", v)
}
