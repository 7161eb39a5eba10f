package browsertest_test

import "strings"

// byteStreams are what EventSource is asked to judge. A "|" ends a piece: the next one is sent a moment later, so that
// the browser gets a chance to read them one by one. (It need not: what it reports must not depend on it.)
var byteStreams = []struct{ name, in string }{
	{"nothing", ""},
	{"one event", "data: x\n\n"},
	{"every field", "id: 7\nevent: tick\nretry: 500\ndata: x\n\n"},
	{"data lines are joined, other fields between", "data: a\nevent: tick\ndata:  b\nfoo: bar\ndata\ndata:\n\n"},
	{"one space is taken off", "data:x\n\ndata: x\n\ndata:  x\n\ndata:\tx\n\ndata: x \n\n"},
	{"empty data is an event", "data\n\ndata:\n\ndata: \n\ndata\ndata\n\n"},
	{"no data is no event, and its name is forgotten", "event: tick\n\ndata: x\n\n\n\n\n"},
	{"the last name wins", "event: tick\nevent: tock\ndata: x\n\n"},
	{"an empty name is the default", "event: tick\nevent:\ndata: x\n\nevent\ndata: y\n\nevent: message\ndata: z\n\n"},
	{"a name keeps its spaces", "event:  tick\ndata: x\n\nevent: tick \ndata: y\n\n"},
	{"fields without a colon", "data\nevent\nid\nretry\n\ndata: x\n\n"},
	{"colons in the value", "data: a:b\ndata::\ndata: : \n\n"},
	{"fields that are none", "Data: x\ndata : x\n data: x\ndatas: x\ndat: x\nevent.: x\nxdata\n\ndata: y\n\n"},
	{"comments", ": a\n:\n\n:b\ndata: x\n: c\n:\ndata: y\n: d\n\n:"},
	{"a comment of every field", ":data: x\n:event: tick\n:id: 7\n:retry: 500\n\ndata: x\n\n"},
	{"control characters and NUL in data", "data: a\x00b\x01\x7f\v\f\n\n"},

	{"id persists and is cleared", "id: 7\ndata: a\n\ndata: b\n\nid\ndata: c\n\ndata: d\n\n"},
	{"id without data counts", "id: 7\n\ndata: x\n\nid: 8\n\n"},
	{"id of an unfinished block does not", "id: 7\ndata: x\n\nid: 8\ndata: y\n"},
	{"id with NUL is ignored", "id: 7\nid: 8\x00\ndata: a\n\nid: \x009\ndata: b\n\nid: \x00\ndata: c\n\n"},
	{"id keeps its spaces", "id:  7 \ndata: x\n\n"},
	{"id beyond ASCII", "id: é日\ndata: x\n\n"},

	{"retry", "retry: 500\n\n"},
	{"retry counts on", "retry: 500\ndata: x\n\ndata: y\n\n"},
	{"the last retry wins", "retry: 1\nretry: 1000\n\ndata: x\n\n"},
	{"retry takes digits only", "retry: -1\nretry: 1.5\nretry: 500s\nretry:  500\nretry: +500\nretry: 0x1\nretry: \u0665\ndata: x\n\n"},
	{"retry with zeros in front", "retry: 000500\ndata: x\n\n"},
	{"retry of an unfinished block", "data: x\n\nretry: 500\n"},
	{"a retry beyond all numbers", "retry: 500\n\nretry: 99999999999999999999\ndata: x\n\n"},
	{"an empty retry", "retry: 500\n\nretry:\ndata: x\n\n"},

	{"CR", "data: a\rdata: b\r\rdata: c\r\r"},
	{"CRLF", "data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n"},
	{"line ends mixed", "data: a\r\n\ndata: b\n\rdata: c\r\r\ndata: d\r\n\rdata: e\n\r\n: f\r\n"},
	{"line ends at the start", "\r\n\n\rdata: x\n\n"},
	{"other line ends are none", "data: a\u2028data: b\u2029data: c\u0085data: d\v\fdata: e\n\n"},
	{"CR is the last byte", "data: a\n\ndata: b\n\r"},

	{"BOM", "\ufeffdata: x\n\ndata: y\n\n"},
	{"BOM before a comment", "\ufeff: c\ndata: x\n\n"},
	{"two BOMs", "\ufeff\ufeffdata: x\n\ndata: y\n\n"},
	{"BOM later on", "\n\ufeffdata: x\n\ndata: \ufeffy\n\n"},
	{"two thirds of a BOM", "\xef\xbbdata: x\n\ndata: y\n\n"},
	{"BOM in pieces", "\xef|\xbb|\xbf|data: x\n\n"},
	{"BOM of UTF-16", "\xff\xfedata: x\n\ndata: y\n\n"},

	{"cut inside a field's name", "da|ta: x\n\nd|at|a|: y\n\n"},
	{"cut around the colon and its space", "data|: x\n\ndata:| y\n\ndata: |z\n\ndata|:| |x\n\n"},
	{"cut before the blank line", "data: x\n|\n|data: y|\n|\n"},
	{"cut inside CRLF", "data: a\r|\ndata: b\r|\n\r|\ndata: c\r\n|\r\n"},
	{"cut between CRs", "data: a\r|\r|data: b\r|data: c\r\r|"},
	{"CR ends a piece, and more than LF follows", "data: a\r|data: b\r|\r|\ndata: c\n\n"},
	{"cut inside a comment", ": hea|rt|beat\n|\ndata: x\n\n:|\n:|:data: y\n\ndata: z\n\n"},
	{"cut inside a character", "data: \xc3|\xa9\n\ndata: \xe6|\x97|\xa5\n\ndata: \xf0|\x9f|\x98|\x80\n\n"},
	{"byte by byte", strings.Join(strings.Split("id: 7\r\nevent: tick\r\ndata: \xc3\xa9 x\r\n: c\r\n\r\ndata\n\n", ""), "|")},
	{"many events in one piece", strings.Repeat("data: {\"content\":\"x\"}\n\n", 50)},
	{"a long line", "data: " + strings.Repeat("0123456789abcdef", 512) + "|" + strings.Repeat("f", 4096) + "\n\n"},
	{"our own wire", ": \n\nretry: 500\n\ndata: {\"content\":\"Hello!\"}\n\nevent: error\ndata: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]\n\n"},

	{"unfinished event", "data: a\n\ndata: b\n"},
	{"unfinished line", "data: a\n\ndata: b"},
	{"unfinished line end", "data: a\n\ndata: b\r"},
	{"unfinished character", "data: a\n\ndata: b\xe6\x97"},
	{"unfinished, then the end behind CRLF", "data: a\r\n\r\ndata: b\r\n"},

	{"not UTF-8: a lone byte", "data: a\xffb\x80\n\n"},
	{"not UTF-8: a character cut short", "data: \xe6\x97x\ndata: \xe6\x97\n\ndata: \xf0\x9f\x98\n\n"},
	{"not UTF-8: too long a form", "data: \xc0\xafx\xe0\x80\xafx\xf0\x80\x80\xaf\n\n"},
	{"not UTF-8: surrogates, and beyond the last character", "data: \xed\xa0\x80x\xf4\x90\x80\x80x\xf8\x88\n\n"},
	{"not UTF-8: in id and name", "id: a\xff\nevent: tick\xff\ndata: x\n\n"},
	{"not UTF-8: a character broken by a line end", "data: \xe6\n\xa5data: b\n\ndata: c\n\n"},
	{"not UTF-8: in a field's name", "data\xff: x\n\xffdata: y\ndata: z\n\n"},
}

// eventNames are the types that an EventSource is asked for: it cannot be asked for all.
var eventNames = []string{"message", "error", "tick", "tock", " tick", "tick ", "tick\ufffd"}
