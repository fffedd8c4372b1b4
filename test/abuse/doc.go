// Package abuse holds a fuzzer of whole pods: random requests, frames and slow peers, from many addresses of this machine, with
// and without accounts, against two pods under a container's memory limit, while a well-behaved client goes on chatting.
//
// go test ./test/abuse runs it for seconds, PARLEY_ABUSE=10m go test ./test/abuse -v -timeout 20m for as long as that says,
// with the figures. PARLEY_ABUSE_ONLY names one kind of attack, for what it costs.
package abuse
