package sse

import "strconv"

// streamHead is what precedes the extra fields in the head of every stream.
// There is neither Content-Length nor chunked coding: the end of the
// connection ends the body (RFC 9112 section 6.3, rule 8), hence
// "Connection: close". X-Accel-Buffering keeps nginx from collecting events.
const streamHead = "HTTP/1.1 200 OK\r\n" +
	"Content-Type: text/event-stream\r\n" +
	"Cache-Control: no-cache\r\n" +
	"Connection: close\r\n" +
	"X-Accel-Buffering: no\r\n"

// AppendHead adds the response head of a stream, extra included, up to and
// with its empty line.
//
// Every extra field should have passed CheckHeader, where a bad one can be
// logged with its sender. Here one that has not is left out, so that a CR or LF
// never reaches the wire. It is no panic, although it is a bug of the caller:
// the panic of a callback is answered with a rejection that carries the same
// extra fields, and would panic again.
func AppendHead(dst []byte, extra []Header) []byte {
	dst = append(dst, streamHead...)
	dst = appendHeaders(dst, extra, "")
	return append(dst, "\r\n"...)
}

// AppendRejection adds a whole HTTP/1.1 response that refuses a client: head,
// and a body of one line of JSON that names the status and message again (for
// fetch() code that looks at bodies only):
//
//	{"error":{"status":503,"message":"too many streams"}}
//
// status is 400 to 599; any other is a bug of the caller and sent as 500, since
// a client would read a 1xx, 204 or 304 as a response without a body.
// retryAfterSeconds is written as Retry-After when above zero, and then takes
// the place of a Retry-After in extra. extra is treated as in AppendHead.
// message is any text; it is escaped as in AppendJSONString.
//
// It allocates only for a message of more than about 400 bytes.
func AppendRejection(dst []byte, status, retryAfterSeconds int, extra []Header, message string) []byte {
	if status < 400 || status > 599 {
		status = 500
	}
	// The length stands before the body, so the body is made first.
	var scratch [512]byte
	body := append(scratch[:0], `{"error":{"status":`...)
	body = strconv.AppendInt(body, int64(status), 10)
	body = append(body, `,"message":`...)
	body = AppendJSONString(body, message)
	body = append(body, "}}\n"...)

	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ') // stands even before an empty phrase (RFC 9112 section 4)
	dst = append(dst, reason(status)...)
	dst = append(dst, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\nCache-Control: no-store\r\nConnection: close\r\n"...)
	ours := ""
	if retryAfterSeconds > 0 {
		ours = "Retry-After"
		dst = append(dst, "Retry-After: "...)
		dst = strconv.AppendInt(dst, int64(retryAfterSeconds), 10)
		dst = append(dst, "\r\n"...)
	}
	dst = appendHeaders(dst, extra, ours)
	dst = append(dst, "\r\n"...)
	return append(dst, body...)
}

// reason gives the phrase that net/http has for a 4xx or 5xx status, and ""
// for one it does not know. It is a copy because importing net/http would pull
// package net in.
func reason(status int) string {
	switch status {
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 402:
		return "Payment Required"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 406:
		return "Not Acceptable"
	case 407:
		return "Proxy Authentication Required"
	case 408:
		return "Request Timeout"
	case 409:
		return "Conflict"
	case 410:
		return "Gone"
	case 411:
		return "Length Required"
	case 412:
		return "Precondition Failed"
	case 413:
		return "Request Entity Too Large"
	case 414:
		return "Request URI Too Long"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Requested Range Not Satisfiable"
	case 417:
		return "Expectation Failed"
	case 418:
		return "I'm a teapot"
	case 421:
		return "Misdirected Request"
	case 422:
		return "Unprocessable Entity"
	case 423:
		return "Locked"
	case 424:
		return "Failed Dependency"
	case 425:
		return "Too Early"
	case 426:
		return "Upgrade Required"
	case 428:
		return "Precondition Required"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 451:
		return "Unavailable For Legal Reasons"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	case 505:
		return "HTTP Version Not Supported"
	case 506:
		return "Variant Also Negotiates"
	case 507:
		return "Insufficient Storage"
	case 508:
		return "Loop Detected"
	case 510:
		return "Not Extended"
	case 511:
		return "Network Authentication Required"
	}
	return ""
}
