"""What serving a token takes: analytic FLOPs in two parts, and milliseconds that were measured.

`shape` holds the sizes of a layer, `tariff` prices its agents in FLOPs, `fixed` is what no agent
can save, `reading` finds what of the output is read; `rates` are what agents are charged instead,
`latency_table` holds measurements of a device, `latency` makes a tariff of them.
"""
