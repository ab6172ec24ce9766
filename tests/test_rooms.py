"""Who may know whom: the arrows between rooms, read from the imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "idl_cli"
FILES = sorted(PACKAGE.rglob("*.py"))

# Room -> the rooms it may import. `errors`, `masking`, `json_value` and the package itself (its
# version) are open to all.
ARROWS = {
    "equilibrium": set(),
    "models": {"equilibrium"},
    "data": {"distributed"},
    "distributed": set(),
    "evaluation": {"distributed", "data", "models", "equilibrium"},
    "analysis": {"evaluation", "data", "models", "equilibrium"},
    "sim": {"distributed", "evaluation", "data", "models", "equilibrium"},
    "training": {"distributed", "evaluation", "data", "models", "equilibrium"},
    "reporting": set(),
    "console": {"reporting"},
    "config": {"equilibrium"},
    "masking": set(),
    "json_value": set(),
    "registry": {"config"},
    "run": {"registry", "data", "models"},
    "loggers": {"registry", "run"},
    "requests": {"config", "registry", "run"},
    "assembly": {
        "analysis",
        "config",
        "data",
        "distributed",
        "evaluation",
        "models",
        "registry",
        "reporting",
        "run",
        "sim",
        "training",
    },
    "reports": {"analysis", "config", "registry", "requests", "run"},
    "jobs": {
        "assembly",
        "config",
        "console",
        "distributed",
        "reporting",
        "reports",
        "requests",
        "run",
    },
    "sweeps": {
        "analysis",
        "assembly",
        "config",
        "console",
        "jobs",
        "reporting",
        "reports",
        "requests",
        "run",
    },
    "commands": {
        "analysis",
        "assembly",
        "config",
        "console",
        "data",
        "distributed",
        "evaluation",
        "loggers",
        "models",
        "registry",
        "reporting",
        "reports",
        "requests",
        "run",
        "sim",
        "training",
    },
    "hydra_app": {"config", "distributed", "jobs", "registry", "requests", "sweeps"},
    "completion": {"config", "registry", "requests"},
    "cli": {"completion", "distributed"},
    "__main__": {"cli"},
    # The public names, imported on first use.
    "__init__": {"analysis", "models", "moved", "run", "sim"},
    "moved": set(),
}

# Library -> the rooms that may know it.
LIBRARIES = {
    "hydra": {"hydra_app", "jobs", "requests", "sweeps"},
    "omegaconf": {"commands", "hydra_app", "jobs", "requests", "sweeps"},
    "rich": {"console"},
    "matplotlib": {"analysis"},
    "jinja2": {"analysis"},
    "cvxpy": {"sim", "commands"},
    "sklearn": {"data"},
    "pooch": {"data"},
}


@dataclass(frozen=True)
class Import:
    """One import statement's target, and whether only the type checker sees it."""

    file: Path
    line: int
    module: str
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE.parent)}:{self.line} imports {self.module}"


def _imports(file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_typing = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            assert node.module is not None
            # `from idl_cli import registry` names a room, `from idl_cli.x import y` a module
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = names if node.module == "idl_cli" else [node.module]
        else:
            continue
        for module in modules:
            yield Import(file, node.lineno, module, id(node) in for_typing)


def _room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


IMPORTS = [each for file in FILES for each in _imports(file)]


def test_every_room_is_in_the_table() -> None:
    assert {_room(file) for file in FILES} - {"errors"} <= set(ARROWS)


def test_arrows_point_down() -> None:
    wrong = []
    for each in IMPORTS:
        parts = each.module.split(".")
        if parts[0] != "idl_cli" or len(parts) == 1:
            continue
        home, target = _room(each.file), parts[1]
        if target in (home, "errors", "masking", "json_value", "__version__"):
            continue
        if target not in ARROWS.get(home, set()):
            wrong.append(str(each))
    assert not wrong, "\n".join(wrong)


def test_rooms_have_no_cycles() -> None:
    left = dict(ARROWS)
    while left:
        leaves = [room for room, targets in left.items() if not targets & left.keys()]
        assert leaves, f"a cycle among {sorted(left)}"
        for room in leaves:
            del left[room]


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_are_known_where_they_belong(library: str) -> None:
    wrong = [
        str(each)
        for each in IMPORTS
        if each.module.split(".")[0] == library
        and _room(each.file) not in LIBRARIES[library]
        and not each.typing_only
    ]
    assert not wrong, "\n".join(wrong)


def test_only_what_draws_on_a_terminal_knows_rich() -> None:
    """The words and numbers that people read can be had without it."""
    knowing = {each.file.stem for each in IMPORTS if each.module.split(".")[0] == "rich"}
    assert knowing == {"terminal", "tables", "progress"}


def test_equilibrium_imports_torch_alone() -> None:
    standard = {"torch", "idl_cli", *sys.stdlib_module_names}
    wrong = [
        str(each)
        for each in IMPORTS
        if _room(each.file) == "equilibrium" and each.module.split(".")[0] not in standard
    ]
    assert not wrong, "\n".join(wrong)


def test_errors_and_config_stay_light() -> None:
    """Schemas are read on every `idl --help`-like answer: nothing heavy may hang on them."""
    allowed = {"idl_cli", *sys.stdlib_module_names}
    wrong = [
        str(each)
        for each in IMPORTS
        if _room(each.file)
        in ("errors", "masking", "config", "registry", "completion", "cli", "reporting")
        and each.module.split(".")[0] not in allowed
        and not each.typing_only
    ]
    assert not wrong, "\n".join(wrong)


def test_solvers_know_neither_judge_nor_subject_nor_each_other() -> None:
    solvers = PACKAGE / "sim" / "solvers"
    with_solver = {file.stem for file in solvers.glob("*.py") if _defines_solver(file)}
    wrong = []
    for each in IMPORTS:
        if each.file.parent != solvers or each.file.stem == "__init__" or each.typing_only:
            continue
        parts = each.module.split(".")
        subject = parts[:2] in (["idl_cli", "models"], ["idl_cli", "data"])
        judge = each.module in (
            "idl_cli.sim.regression.certificate",
            "idl_cli.sim.regression.duality_gap",
        )
        other = parts[:3] == ["idl_cli", "sim", "solvers"] and parts[-1] in with_solver
        runs_admm = each.file.stem == "admm_multigpu" and parts[-1] == "admm"
        if (
            subject
            or judge
            or (other and parts[-1] not in ("base", each.file.stem) and not runs_admm)
        ):
            wrong.append(str(each))
    assert not wrong, "\n".join(wrong)


def _defines_solver(file: Path) -> bool:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return any(
        isinstance(node, ast.ClassDef) and node.name.endswith("Solver") for node in tree.body
    )


# -- no state, no sinks, no printing ---------------------------------------------------------------


def test_no_mutable_state_outside_functions() -> None:
    """A constant that can be changed is marked Final, and nothing in its module changes it."""
    wrong = []
    for file in FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        constants = set()
        for node in _statements_outside_functions(tree):
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and _is_mutable(node.value):
                name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
                constants.add(name)
                annotation = node.annotation if isinstance(node, ast.AnnAssign) else None
                if name != "__all__" and (
                    annotation is None or "Final" not in ast.unparse(annotation)
                ):
                    wrong.append(f"{file}:{node.lineno} {name} is not Final")
        for node in ast.walk(tree):
            if isinstance(node, ast.Global) or _changed_name(node) in constants:
                wrong.append(f"{file}:{node.lineno} changes what all share")
    assert not wrong, "\n".join(wrong)


def _statements_outside_functions(tree: ast.Module) -> Iterator[ast.stmt]:
    yield from tree.body
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from node.body


def _is_mutable(value: ast.expr | None) -> bool:
    literals = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    if isinstance(value, literals):
        return True
    makers = {"list", "dict", "set", "defaultdict", "deque", "Counter", "OrderedDict", "bytearray"}
    return isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] in makers


def _changed_name(node: ast.AST) -> str | None:
    """The name that a statement changes in place: ``x[k] = v``, ``del x[k]``, ``x.append(v)``."""
    methods = {
        "append",
        "add",
        "update",
        "extend",
        "insert",
        "pop",
        "clear",
        "remove",
        "setdefault",
    }
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
        return ast.unparse(node.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return ast.unparse(node.func.value) if node.func.attr in methods else None
    return None


def test_no_keyword_sinks_and_no_bare_except() -> None:
    # registry.build hands on the command's run-time arguments, bound against the signature first.
    exempt = {("registry.py", "build")}
    wrong = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.args.kwarg:
                public = not node.name.startswith("_") or node.name == "__init__"
                if public and (file.name, node.name) not in exempt:
                    wrong.append(f"{file}:{node.lineno} {node.name}(**{node.args.kwarg.arg})")
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                wrong.append(f"{file}:{node.lineno} bare except")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", ["data", "models", "equilibrium", "evaluation", "training"])
def test_files_of_a_room_have_no_cycles(room: str) -> None:
    """Imports for the type checker count too."""
    names = {
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts): file
        for file in FILES
        if _room(file) == room and file.stem != "__init__"
    }
    left = {
        name: {each.module for each in IMPORTS if each.file == file} & names.keys()
        for name, file in names.items()
    }
    while left:
        leaves = [name for name, targets in left.items() if not targets & left.keys()]
        assert leaves, f"a cycle among {sorted(left)}"
        for name in leaves:
            del left[name]
