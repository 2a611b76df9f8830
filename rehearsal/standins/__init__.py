"""Stand-ins for what a rehearsal can't have.

They are: the GPU, NVIDIA's packages, a Concourse release, Juju and its hook tools, and
the related web.  Each does what its original was seen to do as far as a charm can tell,
and no more.  Those that run inside the machine (`nvidia_smi`, `nvidia_ctk`,
`nvidia_container_runtime`, `concourse`, `hook_tool`) are single files that need nothing
but Python.
"""
