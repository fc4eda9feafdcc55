"""The rules of the house: which floor may import which, how long a room may grow, who opens the one door."""

import ast
import functools
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = ("privacy", "protocols", "client", "server", "simulations")
BELOW = {
    "privacy": set(),
    "protocols": {"privacy"},
    "client": {"privacy", "protocols"},
    "server": {"privacy", "protocols"},
    "simulations": {"privacy", "protocols", "client", "server"},
}
OUTSIDE = {
    "privacy": {"numpy", "dp_accounting"},
    "protocols": {"numpy", "cryptography", "msgpack"},
}
FLOWER_TYPES = {
    "client/app.py", "server/app.py", "server/grid.py", "server/superlink.py", "server/simulated.py",
    "simulations/benches/flower_accountant.py", "simulations/benches/flower_secagg.py",  # peers of a measurement
}  # fmt: skip
LONGEST_FILE, LONGEST_FUNCTION = 400, 50
FORBIDDEN_NAMES = {"utils", "helpers", "manager", "handler", "base", "common", "misc"}
FILES = sorted(f for floor in FLOORS for f in (ROOT / floor).rglob("*.py"))
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def place(file: Path) -> str:
    return str(file.relative_to(ROOT))


@functools.cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def nodes(file: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(file)))


def imported(file: Path) -> set[str]:
    """Every top-level package that the file imports, at any depth of its code."""
    names = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(file)}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


def calls(file: Path):
    """Every call in the file as (line, the called name without its owner)."""
    for node in nodes(file):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            yield node.lineno, name, node


def test_the_house_stands():
    assert len(FILES) > 20
    assert all((ROOT / floor / "__init__.py").exists() for floor in FLOORS)


def test_a_floor_imports_only_what_lies_below_it():
    for file in FILES:
        floor = file.relative_to(ROOT).parts[0]
        names = imported(file) - {floor}
        assert names & set(FLOORS) <= BELOW[floor], f"{place(file)} imports {names & set(FLOORS)}"
        if place(file) == "privacy/randomness.py":
            names -= {"cryptography"}  # AES, for noise by the hundred megabytes (ADR 0010)
        if place(file).startswith("privacy/redaction/"):
            names -= {"re2", "phonenumbers"}  # patterns in linear time, and the numbering plans
        if floor in OUTSIDE:
            foreign = {n for n in names if n not in sys.stdlib_module_names and n not in FLOORS and n != "__future__"}
            assert foreign <= OUTSIDE[floor], f"{place(file)} imports {foreign}"


def test_no_files_import_each_other_in_a_circle():
    known = {place(f).removesuffix(".py").removesuffix("/__init__").replace("/", "."): f for f in FILES}
    arrows = {name: names_in(file) & set(known) - {name} for name, file in known.items()}
    while leaves := [name for name, needs in arrows.items() if not needs & set(arrows)]:
        for name in leaves:
            del arrows[name]
    assert not arrows, f"in or above a circle: {sorted(arrows)}"


def names_in(file: Path) -> set[str]:
    """Every module that the file may mean, `from a.b import c` being a.b, or a.b.c if that is a module."""
    names = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_flowers_types_stay_in_their_files():
    for file in FILES:
        if "flwr" in imported(file):
            assert place(file) in FLOWER_TYPES, f"{place(file)} imports Flower"


def test_a_file_has_one_idea_and_a_function_a_page():
    for file in FILES:
        assert len(file.read_text().splitlines()) <= LONGEST_FILE, place(file)
        for node in nodes(file):
            if isinstance(node, FUNCTION):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{place(file)}:{node.lineno} {node.name} has {length} lines"


def test_whatever_is_public_says_what_it_promises():
    for file in FILES:
        module = tree(file)
        assert ast.get_docstring(module), f"{place(file)} has no first line"
        for node in [*module.body, *(m for c in module.body if isinstance(c, ast.ClassDef) for m in c.body)]:
            if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{place(file)}:{node.lineno} {node.name} has no docstring"


def test_only_the_gate_opens_the_door():
    for file in FILES:
        for line, name, _ in calls(file):
            if name in ("Released", "Disclosed", "Said"):
                assert place(file) == "privacy/gate.py", f"{place(file)}:{line} makes a {name}"
            if name == "Redacted":
                assert place(file) == "privacy/redaction/redactor.py", f"{place(file)}:{line} makes a Redacted"
            if name == "Bounded":
                assert place(file) == "privacy/mechanisms.py", f"{place(file)}:{line} makes a Bounded"


def test_nothing_unpickles_evaluates_or_imports_what_came_from_outside():
    for file in FILES:
        assert not imported(file) & {"pickle", "cloudpickle", "dill", "marshal", "shelve"}, place(file)
        for line, name, node in calls(file):
            where = f"{place(file)}:{line}"
            assert ast.unparse(node.func) not in {"eval", "exec", "torch.load", "os.system"}, where
            if name in ("import_module", "__import__"):
                assert isinstance(node.args[0], ast.Constant), f"{where} imports a name that is not in the code"
            shell = [k for k in node.keywords if k.arg == "shell"]
            assert not any(getattr(k.value, "value", True) for k in shell), where


def test_the_two_lower_floors_catch_narrowly_and_draw_no_other_randomness():
    for file in [f for f in FILES if place(f).startswith(("privacy", "protocols"))]:
        for node in nodes(file):
            if isinstance(node, ast.ExceptHandler):
                caught = getattr(node.type, "id", None)
                text = ast.get_source_segment(file.read_text(), node) or ""
                assert (
                    caught not in (None, "Exception")
                    or "raise" in text
                    or isinstance(node.type, ast.Tuple | ast.Attribute)
                ), f"{place(file)}:{node.lineno}"
        if place(file) != "privacy/randomness.py":
            source = file.read_text()
            assert "np.random" not in source, place(file)
            assert "random" not in imported(file), place(file)


def test_rooms_are_named_after_what_they_are():
    for file in FILES:
        assert file.stem not in FORBIDDEN_NAMES, place(file)


def test_no_global_keyword_and_no_print_below_the_command_line():
    for file in FILES:
        for node in nodes(file):
            assert not isinstance(node, ast.Global), f"{place(file)}:{node.lineno}"
        if place(file).startswith(("privacy", "protocols")):
            assert not any(name == "print" for _, name, _ in calls(file)), place(file)
