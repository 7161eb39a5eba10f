package mock

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"streaming-daemon-go/bench/wire"
)

// Texts are what completions can be made of: pieces, taken in turn. Each is hard on something.
var Texts = map[string][]string{
	"sentence":   {wire.EventText}, // what the load harness expects
	"words":      {"Paris", " is", " the", " capital", " of", " France", ".", " ", "It", " has", " 2", ",", "1", " million", " people", "."},
	"surrogates": {"😀", "a😀b", "𝄞𝄢", "👩‍👩‍👧‍👦", "🇩🇪", "\U0010FFFF", "\U00010000", "𠜎", "👍🏽"},
	"combining":  {"e\u0301", "\u0301", "n\u0303o", "Z\u0351\u036b\u0343", "\u1112\u1161\u11ab", "क्षि", "\u200d", "\ufe0f", "\u0300\u0301\u0302"},
	"lines":      {"\n", "\r", "\r\n", "a\nb", "a\rb\r", "\n\n", "data: [DONE]\n\n", "\n\ndata: x\n\n", "\u2028", "\u2029", "\u0085", ""},
	"controls":   {"\x00", "\x01\x02", "\b\f\t", "\x1b[31m", "\x7f", "\u009f", "\ufeff", "\ufffe", "\uffff", "\ufffd"},
	"quotes":     {`"`, `\`, `\"`, `/`, `\u0041`, `\ud83d`, `{"content":"x"}`, `"},"finish_reason":"stop"}]}`, `</script>`, `<&>`, `[DONE]`, `'`},
	"scripts":    {"Привет", "你好", "こんにちは", "مرحبا", "שלום", "สวัสดี", "ქართული", "ß", "İ", "ﬀ"},
}

// pieces gives the text of piece i, and how many there are (negative: no end). prompt is for "echo".
func (s *Script) pieces(prompt string) (at func(i int) string, count int) {
	if s.Text == "echo" {
		words := strings.SplitAfter(prompt, " ")
		return func(i int) string { return s.grown(words[i]) }, len(words)
	}
	texts := Texts[s.Text]
	if s.Bytes == 0 {
		return func(i int) string { return texts[i%len(texts)] }, s.Events
	}
	grown := make([]string, len(texts))
	for i, t := range texts {
		grown[i] = s.grown(t)
	}
	return func(i int) string { return grown[i%len(grown)] }, s.Events
}

// grown is t as often as it takes to have s.Bytes bytes.
func (s *Script) grown(t string) string {
	if len(t) == 0 || len(t) >= s.Bytes {
		return t
	}
	return strings.Repeat(t, (s.Bytes+len(t)-1)/len(t))
}

// Quoted gives the pieces of text of a reply as the JSON strings that are in its chunks, in order. It must be a script
// with an end.
func (s Script) Quoted(prompt string) []string {
	s = s.withDefaults()
	at, count := s.pieces(prompt)
	quoted := make([]string, 0, count)
	for i := range count {
		quoted = append(quoted, string(appendQuoted(nil, at(i), s.Escape)))
	}
	return quoted
}

// Whole gives the text of a reply.
func (s Script) Whole(prompt string) string {
	s = s.withDefaults()
	at, count := s.pieces(prompt)
	var b strings.Builder
	for i := range count {
		b.WriteString(at(i))
	}
	return b.String()
}

const hex = "0123456789abcdef"

// appendQuoted adds t, which is UTF-8, as a JSON string (RFC 8259, section 7) with as many escapes as escape says.
func appendQuoted(b []byte, t, escape string) []byte {
	b = append(b, '"')
	for _, r := range t {
		switch {
		case escape == "all" || r >= utf8.RuneSelf && escape == "ascii":
			b = appendUnits(b, r)
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < ' ':
			b = appendUnits(b, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// appendUnits adds a rune as \u escapes: two, a surrogate pair, past the first 65,536.
func appendUnits(b []byte, r rune) []byte {
	var units [2]uint16
	for _, u := range utf16.AppendRune(units[:0], r) {
		b = append(b, '\\', 'u', hex[u>>12], hex[u>>8&15], hex[u>>4&15], hex[u&15])
	}
	return b
}

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }
