"""How kernels become a library.

numba compiles the kernels when the package is built, and a linker makes one shared library of them that goes into the
wheel (`build`). At run time ctypes loads it (`library`); numba is not there. Kernels and their callers see `policy`
alone, and `arguments` where they declare types.

In a source tree the library belongs to the sources that it was made of: after a change of theirs, the next process
that calls a kernel builds it anew.
"""
