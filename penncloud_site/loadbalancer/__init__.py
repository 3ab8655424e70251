"""The load balancer: the one door between browsers and the front ends.

What it promises:

- **A request is parsed strictly, then written anew.** Not one byte of a client's framing reaches a front end: the
  head is built again from its parsed parts, hop-by-hop headers are dropped, and `X-Forwarded-*` are ours alone. What
  two parsers could read in two ways (two lengths, a length beside chunks, folded lines) is refused with 400.
- **Least connections.** A request goes to the healthy front end that has the fewest requests in hand.
- **A front end that dies costs no page.** What was not sent yet goes to another front end, whatever the method; what
  was sent goes to another one if repeating it is harmless (`retry`); a download goes on where it broke off
  (`resume`). A request that may have been carried out is never repeated: its sender is told so in plain words.
- **Memory is bounded.** Bodies are streamed in pieces of at most `RECEIVE_SIZE` in both directions; whoever is slow
  slows the other side down.

It keeps no state that matters: kill it, start it, and the next request goes through.

The modules, from the pure ones upward: `limits` (every number), `http1` (bytes to events), `headers` (what is passed
on), `backends` (who is healthy, who is next), `retry` (what may be repeated), `resume` (going on with a download),
`pages` (what a user reads when it cannot be helped); then `connection`, `health`, `upload`, `exchange`, `status`, `server`.
"""
