"""The commands of the shell, `equilibrax sample`, `train`, `study` and the others.

`cli` reads the words. It runs `sample`, `train`, `evaluate` and `export` itself; `reproduce`,
`study`, `benchmark` and `explore` have a module each.
"""
