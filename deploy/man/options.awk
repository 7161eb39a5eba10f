# Turns the output of streaming-daemon -h into the OPTIONS of its manual page.

function roff(s) {
	gsub(/\\/, "\\e", s)
	gsub(/-/, "\\-", s)
	sub(/^[.']/, "\\\\\\&&", s)
	return s
}
/^[A-Z].*:$/ { sub(/:$/, ""); print ".SS " roff($0); next }
/^  -/ {
	option = $1
	sub(/^  -[^ ]+ ?/, "")
	print ".TP"
	print ".B " roff(option) ($0 == "" ? "" : " \\fI" roff($0) "\\fR")
	next
}
/^        / { sub(/^ +/, ""); print roff($0) }
