// Command mockllm is a server of chat completion streams in OpenAI's format, to try and to load clients of such
// servers with.
//
//	go run ./bench/mockllm -http 127.0.0.1:8000
//	curl -N http://127.0.0.1:8000/v1/chat/completions -d '{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
//	curl http://127.0.0.1:8000/stats
//
// The flags set what every reply is like; a request changes it for itself:
//
//	-d '{…, "mock":{"text":"surrogates","escape":"all","events":100,"delay":"10ms"}}'
//	-H 'X-Mock: {"status":429,"retry_after":"7"}'
//	-H 'X-Mock: {"cut":"reset","cut_at":1000}'
//
// Behind the daemon a payload does the same in its `extra`. Package mock has all that can be set.
//
// It prints its bases, one to a line, when it listens, and ends at SIGTERM. Its certificate is made at start: clients
// trust the file of -cert (SSL_CERT_FILE), or check nothing.
package main
