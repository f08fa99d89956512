"""Compiling entry kernels: the program that `build` runs, several at a time, each kernel in one of them.

From numba it takes what numba publishes: the LLVM module of a compiled function (`inspect_llvm`). What is not public is
the convention by which that function is called, so every type of it is compared with what `arguments` declares, and a
function of our own in front of it takes two pointers, however the platform passes arguments.
"""

import gc
import importlib.util
import sys
from pathlib import Path
from typing import Any

from pcapdiag.engine.compiler import policy
from pcapdiag.engine.compiler.arguments import Arguments
from pcapdiag.engine.compiler.naming import symbol_of
from pcapdiag.engine.compiler.sources import kernel_modules

_LONGEST_NAME = 1 << 20


def compile_share(scratch: Path) -> None:
    """Compile entry kernels, one after the other, that no other process has begun.

    Parameters
    ----------
    scratch : Path
        Gets an object file for each.
    """
    gc.disable()  # what numba makes is kept to the end, and looking through it again and again is a tenth of the time
    for module in kernel_modules():
        importlib.import_module(module)
    # LLVM cuts names at 1,024 characters; those of numba's labels are longer, and two of one kernel became the same.
    llvm: Any = importlib.import_module("llvmlite.binding")
    llvm.set_option("pcapdiag", f"-non-global-value-max-name-size={_LONGEST_NAME}")
    for name, compiled in policy.entries.items():
        try:
            (scratch / f"{name}.begun").touch(exist_ok=False)
        except FileExistsError:
            continue
        (scratch / f"{name}.o").write_bytes(_object_code(name, compiled))


def _object_code(name: str, compiled: Any) -> bytes:
    """Return one kernel, and all that it calls, as an object file that exports one function."""
    llvm: Any = importlib.import_module("llvmlite.binding")  # only the processes that compile have it
    numba: Any = importlib.import_module("numba")
    arguments = Arguments(compiled.py_func)
    signature = tuple(numba.typeof(value) for value in arguments.examples())
    compiled.compile(signature)
    result = compiled.nopython_signatures[0].return_type
    if result not in {numba.types.int64, numba.types.none}:
        msg = f"{name} returns {result}: a kernel that Python calls returns an int64, or nothing"
        raise TypeError(msg)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(compiled.inspect_llvm(signature))
    external = (f for f in module.functions if not f.is_declaration and f.linkage == llvm.Linkage.external)
    (function,) = external
    expected = ["ptr", "ptr", *arguments.machine_types()]
    types = [str(argument.type) for argument in function.arguments]
    if types != expected:
        msg = f"this version of numba passes arguments otherwise than expected: {types} to {name}"
        raise TypeError(msg)
    symbol = symbol_of(name, arguments)
    module.link_in(llvm.parse_assembly(_bridge(symbol, function.name, types)))
    module.verify()
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != symbol:
            value.linkage = llvm.Linkage.internal
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(opt=3, reloc="pic", codemodel="default")
    # Functions that nothing else calls are inlined where they are called, which a sixth of the run time is saved by.
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(module, builder)
    code: bytes = machine.emit_object(module)
    return code


def _bridge(symbol: str, function: str, types: list[str]) -> str:
    """Return LLVM assembly of a function that takes result and arguments by pointer and calls one of numba's."""
    lines = [f"declare i32 @{_quoted(function)}({', '.join(types)})"]
    lines += [f"define i32 @{_quoted(symbol)}(ptr %result, ptr %values) {{", "%problem = alloca ptr"]
    passed = ["ptr %result", "ptr %problem"]
    for number, kind in enumerate(types[2:]):
        lines.append(f"%p{number} = getelementptr i64, ptr %values, i64 {number}")
        lines.append(f"%v{number} = load i64, ptr %p{number}")
        if kind == "i64":
            passed.append(f"i64 %v{number}")
        else:
            how = "inttoptr" if kind == "ptr" else "trunc"
            lines.append(f"%a{number} = {how} i64 %v{number} to {kind}")
            passed.append(f"{kind} %a{number}")
    lines += [f"%status = call i32 @{_quoted(function)}({', '.join(passed)})", "ret i32 %status", "}"]
    return "\n".join(lines)


def _quoted(name: str) -> str:
    return f'"{name}"'


if __name__ == "__main__":
    compile_share(Path(sys.argv[1]))
