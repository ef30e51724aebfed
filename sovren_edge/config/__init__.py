"""config.toml: its model, its faults, the plan that a node makes of it.

model       what the file may say, table by table
load        from a path to a sound `Config`, or every fault at once
fault       one fault, and the error that carries them all
violations  pydantic's findings as faults
places      which settings stand where in the model
sketch      the parts of a file that are well-formed enough to be compared, though others may be faulty
listeners   how listeners may contradict nodes, handlers and each other
pools       how pools may contradict nodes, listeners and each other
address     how endpoints are written
plan        what one node opens, and the port map
"""
