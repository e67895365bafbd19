"""What serving a token takes: analytic FLOPs in two parts, and milliseconds that were measured.

`tariff` prices agents in FLOPs, `fixed` is what no agent can save, `reading` finds what of the
output is read; `latency_table` holds measurements of a device, `latency` makes a tariff of them.
"""
