"""Who takes part: the population, its books, its income and its failures.

`population` holds every agent as a row of tensors, `ledger` moves credits between them, `income`
and `bankruptcy` are rules found by name, `settlement` applies them in order once a step, and
`mesa_agents` shows the same rows as Mesa agents (the only module here that imports Mesa).
"""
