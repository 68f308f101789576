"""Compiled code that only other compiled code calls: linked into what calls it, optimised there and nowhere else.

numba compiles every function to machine code by itself, with all that it calls: code five calls deep is optimised and
assembled five times. Here a function stops before that; what Python calls (see `entry`) has everything in one module.

Measured by `benchmarks/bench_cold_start.py` on two shared cores with AVX-512, CPU seconds of compiling in a first call,
before and now: `image_spectrum` 6.6, 3.1; `filter_curve` 10.1, 6.2; `singular_values` "exact" 11.3, 5.2, "high" 4.4,
3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import _dynfunc, njit  # pyright: ignore[reportAttributeAccessIssue]
from numba.core import compiler, typed_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_machinery import register_pass
from numba.core.registry import CPUDispatcher

__all__ = ["jit"]


def jit(function: Callable[..., Any]) -> Any:
    """Decorates what only compiled code calls."""
    compiling: Any = njit  # its overloads know no `pipeline_class`
    dispatcher = compiling(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=_Linked)(
        function
    )
    dispatcher.__class__ = _Dispatcher
    return dispatcher


class _Dispatcher(CPUDispatcher):
    """numba's, which would jump to an address that is not there."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"expected compiled code to call {self.__name__}, got Python; decorate it with `entry`")


class _Library(JITCodeLibrary):
    """LLVM's code of a function and of what it calls, not optimised and not assembled."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        seen: set[int] = set()
        for library in self._linking_libraries:
            if id(library) not in seen:
                seen.add(id(library))
                if needed := getattr(library, "_reload_init", None):  # not in numba 0.61
                    self._reload_init.update(needed)
                self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(typed_passes.NativeLowering):
    """numba's, into such a library."""

    _name = "linked_lowering"

    def run_pass(self, state: Any) -> Any:
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        # what other code knows the function by; Python cannot call it
        name = lowered.fndesc.qualname.split(".")[-1]
        known = _dynfunc.make_function(lowered.fndesc.lookup_module(), name, "", 0, lowered.env, (state.library,))
        state.library._ensure_finalized()
        state.targetctx.insert_user_function(known, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=known)
        return True


class _Linked(compiler.CompilerBase):
    """numba's usual passes but for the lowering."""

    def define_pipelines(self) -> list[Any]:
        """One."""
        pipeline = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        for index, (each, _) in enumerate(pipeline.passes):
            if each is typed_passes.NativeLowering:
                pipeline.passes[index] = (_Lowering, "lowering, to be linked")
        pipeline._finalized = False
        pipeline.finalize()
        return [pipeline]
