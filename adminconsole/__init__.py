"""The operators' console: is the cluster well, what needs attention, and the few levers there are.

What decides is pure and knows no request:

- `status`: the coordinator's status, read into plain records.
- `health`: those records → one sentence, what needs attention, the condition of each tablet.
- `consequences`: those records and an action → what it would do, in numbers, and whether it needs typed confirmation.
- `inspection`: bytes of a cell → what they are and how to show them.

What reaches out: `observation` (asks for the status, remembers the last one), `machine` (the balancer and the
supervisor), `browsing` (pages of rows and columns), `control` (carries an action out and writes it down in `audit`).

Operators only: every view goes through `penncloud_site.access.operator`, which gives 404 to everybody else.
"""
