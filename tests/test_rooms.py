"""Who may know whom: the arrows between rooms, read from the imports."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "idl_cli"
FILES = sorted(PACKAGE.rglob("*.py"))

# Room -> the rooms it may import. `config` (what options are and how they are checked), `errors`,
# `masking`, `json_value` and the package itself (its version) are open to all.
ARROWS = {
    "equilibrium": set(),
    "models": {"equilibrium"},
    "data": {"distributed"},
    "distributed": set(),
    "evaluation": {"distributed", "data", "models", "equilibrium"},
    "analysis": {"evaluation", "data", "models", "equilibrium"},
    "certificates": {"evaluation", "data", "models", "equilibrium"},
    "sim": {"distributed", "evaluation", "data", "models", "equilibrium"},
    "training": {"distributed", "evaluation", "data", "models", "equilibrium"},
    "reporting": set(),
    "console": {"reporting"},
    "config": set(),
    "masking": set(),
    "json_value": set(),
    "estimators": {"data", "equilibrium", "models", "sim", "training"},
    "export": {"evaluation", "data", "models", "equilibrium", "run"},
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
        "registry",
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
        "distributed",
        "jobs",
        "reporting",
        "reports",
        "requests",
        "run",
    },
    "commands": {
        "analysis",
        "assembly",
        "certificates",
        "completion",
        "config",
        "console",
        "data",
        "distributed",
        "evaluation",
        "export",
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
    "cli": {"commands", "completion", "distributed", "hydra_app", "jobs"},
    "__main__": {"cli"},
    # The public names, imported on first use.
    "__init__": {"analysis", "equilibrium", "estimators", "models", "moved", "run", "sim"},
    "moved": set(),
}

# Room -> those in which it names components, by strings "idl_cli.module:attribute".
NAMED = {"registry": {"data", "export", "loggers", "models", "sim", "training"}}

# Library -> the rooms that may know it.
LIBRARIES = {
    "hydra": {"hydra_app", "jobs", "requests", "sweeps"},
    "omegaconf": {"commands", "hydra_app", "jobs", "requests", "sweeps"},
    "rich": {"console"},
    "matplotlib": {"analysis"},
    "jinja2": {"analysis"},
    "cvxpy": {"sim", "commands"},
    "sklearn": {"data", "estimators"},
    "pooch": {"data"},
}


def _module(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {_module(file) for file in FILES}


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
            # `from idl_cli.x import y` names a module y, or something in x
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [
                name if name in MODULES or node.module == "idl_cli" else node.module
                for name in names
            ]
        else:
            continue
        for module in modules:
            yield Import(file, node.lineno, module, id(node) in for_typing)


def _named(file: Path) -> Iterator[Import]:
    """Modules named by strings, ``"idl_cli.sim.sim:SIM"``, which no import shows."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = re.fullmatch(r"(idl_cli(?:\.\w+)+):\w+", node.value)
            if found:
                yield Import(file, node.lineno, found[1], typing_only=False)


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
        if target in (home, "config", "errors", "masking", "json_value", "__version__"):
            continue
        if target not in ARROWS.get(home, set()):
            wrong.append(str(each))
    assert not wrong, "\n".join(wrong)


def test_components_are_named_from_where_they_may_be() -> None:
    wrong = [
        str(each)
        for file in FILES
        for each in _named(file)
        if each.module.split(".")[1] not in {_room(file)} | NAMED.get(_room(file), set())
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_below_the_sub_commands_names_one() -> None:
    """They are handed down by the command line, so that a new one is known everywhere."""
    commands = {path.stem for path in (PACKAGE / "commands").iterdir()} - {"__init__"}
    wrong = [
        f"{file}:{node.lineno} compares with {right.value!r}"
        for file in FILES
        if _room(file) not in ("commands", "cli")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare) and "command" in ast.unparse(node.left)
        for right in node.comparators
        if isinstance(right, ast.Constant) and right.value in commands
    ]
    assert not wrong, "\n".join(wrong)


def test_rooms_have_no_cycles() -> None:
    TopologicalSorter(ARROWS).prepare()


def test_files_import_each_other_in_no_circle() -> None:
    """What only the type checker imports counts, too."""
    arrows: dict[str, set[str]] = {name: set() for name in MODULES}
    for each in IMPORTS:
        if each.module in MODULES and each.module != _module(each.file):
            arrows[_module(each.file)].add(each.module)
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as circle:
        pytest.fail(" imports ".join(reversed(circle.args[1])))


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


def test_what_most_runs_do_without_is_imported_on_first_use() -> None:
    """Each of these takes as long as a short training; a rank that draws nothing pays for none."""
    # Imported on first use themselves.
    drawing = {"certificate_plots", "heat_maps", "plot_choice", "sweep_plots"}
    wrong = [
        f"{file}:{node.lineno}"
        for file in FILES
        if file.stem not in drawing and file.parent.name != "estimators"
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and re.match(r"(from|import) (sklearn|matplotlib)\b", ast.unparse(node))
    ]
    assert not wrong, "\n".join(wrong)


def test_only_what_draws_on_a_terminal_knows_rich() -> None:
    """The words and numbers that people read can be had without it."""
    knowing = {each.file.stem for each in IMPORTS if each.module.split(".")[0] == "rich"}
    assert knowing == {"terminal", "tables", "live_line"}


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


SOLVERS = PACKAGE / "sim" / "solvers"


def test_solvers_know_neither_judge_nor_subject_nor_each_other() -> None:
    assert not _wrong_in_solvers(IMPORTS)


@pytest.mark.parametrize(
    ("folder", "module"),
    [
        (".", "idl_cli.sim.regression.certificate"),
        ("admm", "idl_cli.sim.regression.duality_gap"),
        ("admm", "idl_cli.sim.regression.dual_points"),
        ("admm", "idl_cli.sim.regression.monitor"),
        ("admm", "idl_cli.sim.fit.fitting"),
        ("admm", "idl_cli.models.implicit"),
        ("admm/deeper", "idl_cli.data.dataset"),
        ("admm", "idl_cli.sim.states.recording"),
        ("admm", "idl_cli.sim.solvers.active_set"),
        (".", "idl_cli.sim.solvers.admm.admm_solver"),
        (".", "idl_cli.sim.solvers"),
    ],
)
def test_what_a_solver_must_not_know_is_found_in_every_folder(folder: str, module: str) -> None:
    wrong = Import(SOLVERS / folder / "new_solver.py", 1, module, typing_only=True)
    assert _wrong_in_solvers([wrong]) == [str(wrong)]


def _wrong_in_solvers(imports: list[Import]) -> list[str]:
    """What files below ``sim/solvers`` import that tells of the judge, the subject, each other.

    The multi-process ADMM runs the ADMM it is given: that of its own folder.
    """
    solvers = {
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        for file in SOLVERS.rglob("*.py")
        if _defines_solver(file)
    }
    rooms = ("models", "data", "evaluation", "sim.fit", "sim.states", "sim.sim")
    judges = ("certificate", "dual_points", "duality_gap", "monitor", "solve", "attempts")
    subject = tuple(f"idl_cli.{room}" for room in rooms)
    judge = tuple(f"idl_cli.sim.regression.{name}" for name in judges)
    wrong = []
    for each in imports:
        if not each.file.is_relative_to(SOLVERS) or each.file == SOLVERS / "__init__.py":
            continue
        known = any(f"{each.module}.".startswith(f"{name}.") for name in subject + judge)
        other = each.module in solvers or each.module == "idl_cli.sim.solvers"
        runs_admm = (
            each.file == SOLVERS / "admm" / "multigpu.py"
            and each.module == "idl_cli.sim.solvers.admm.admm_solver"
        )
        if known or (other and not runs_admm):
            wrong.append(str(each))
    return wrong


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
    # Both hand on what they are given, bound against a signature first.
    exempt = {("__init__.py", "build"), ("arguments.py", "called")}
    # What a traced call names goes to the operation that was called, which refuses the rest.
    exempt |= {
        ("activations.py", "operation"),
        ("movement.py", "of_expression"),
    }
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
