"""The suite that breaks things on purpose and holds the charm to its promises.

`tox -e chaos` runs all of it, `tox -e chaos -- --quick` the part that CI runs.  Both end
with a table of what was tried; the first broken promise ends them, with the command that
repeats it.

A part is a test module here.  It asks for the fixture `chaos` (`frame.Chaos`):

    PROMISE = "Full disk: the worker goes on, one status, and the next hook puts it right."

    def test_full_disk(chaos: Chaos, machine: Machine) -> None:
        for size in chaos.part(SIZES, quick=2):
            with chaos.case(PROMISE, f"{size} bytes left"):
                ...  # asserts

- `case` counts one thing that was tried.  All cases of one promise, from whatever tests,
  make one row of the table; an exception in it is a broken promise, and the test fails.
- `part` returns all of a list, a part chosen by the seed with `--quick`, or what `--case`
  names.  Without `part`, a test runs whole in both.
- `tried` counts many small things at once (fuzzed inputs, say); `aside` counts what is no
  breach but has to be told (refusals during an announced restart).
- `dice` are a case's random numbers, from `--seed`, the test and the case; everything random hangs
  off them, so that `--case` repeats what was.

`machine` and `world` are those of tests/functional: a booted copy of this machine with a GPU,
one a module, and the world around it.  `units.py` has a deployed unit in it.
"""
