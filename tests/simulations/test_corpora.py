"""The corpora: private silos that share nothing, and public text that holds nothing of theirs."""

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.corpora import headers, public, stdlib
from simulations.corpora.licences import declared, licence_of, permitted
from simulations.corpora.overlap import Shingles, runs
from simulations.corpora.silos import MODULES, joined, mixed, silos, write


@pytest.fixture(scope="module")
def parts():
    return silos()


def names(sources):
    return {source.name for source in sources}


def test_there_are_three_silos_of_like_size_with_enough_to_train_on(parts):
    assert [silo.name for silo in parts] == list(MODULES)
    sizes = [sum(source.size for source in silo.train) for silo in parts]
    assert min(sizes) > 700_000
    assert max(sizes) < 1.3 * min(sizes)
    assert all(60_000 < sum(source.size for source in silo.held_out) <= 100_000 for silo in parts)


def test_no_file_is_in_two_silos_or_both_trained_on_and_held_out(parts):
    groups = [names(group) for silo in parts for group in (silo.train, silo.held_out)]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert not any("site-packages" in name or "test" in name.split("/") for group in groups for name in group)


def test_no_module_is_named_in_two_silos():
    modules = [module for names_ in MODULES.values() for module in names_.split()]
    assert len(modules) == len(set(modules))


def test_held_out_text_is_not_repeated_in_what_is_trained_on(parts):
    for silo in parts:
        trained = Shingles.of(source.text for source in silo.train)
        assert trained.share(joined(silo.held_out)) < 0.15  # idioms and notices, no copied files


def test_the_silos_are_the_same_on_every_call(parts):
    assert silos() == parts


def test_the_mixed_text_is_an_equal_share_of_each_silo(parts):
    text = mixed(parts)
    assert len(text) % 3 == 0
    share = len(text) // 3
    for number, silo in enumerate(parts):
        assert joined(silo.held_out).startswith(text[number * share : (number + 1) * share])


def test_a_member_is_given_a_folder_of_its_own_text_alone(parts, tmp_path):
    write(parts, tmp_path)
    for silo in parts:
        files = sorted((tmp_path / silo.name).iterdir())
        assert len(files) == len(silo.train)
        assert sorted(f.read_text(encoding="utf-8") for f in files) == sorted(s.text for s in silo.train)
    assert {f.name for f in (tmp_path / "held_out").iterdir()} == {f"{s.name}.txt" for s in parts} | {"mixed.txt"}


def test_a_module_that_this_python_lacks_is_simply_not_there(parts):
    from simulations.corpora.silos import _silo

    assert _silo("networking", [*MODULES["networking"].split(), "no_such_module"]) == parts[0]


@pytest.fixture(scope="module")
def foreign():
    return {name: headers.silo(name) for name in headers.FOLDERS}


def test_twelve_silos_of_headers_have_like_sizes_and_share_no_file(foreign):
    sizes = [sum(source.size for source in silo.train) for silo in foreign.values()]
    assert len(sizes) == 12
    assert 250_000 < min(sizes) <= max(sizes) <= headers.TRAIN_BYTES
    groups = [names(group) for silo in foreign.values() for group in (silo.train, silo.held_out)]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert all(name.endswith(".h") and public.lendable(name) is False for group in groups for name in group)


def test_held_out_headers_are_not_repeated_in_what_is_trained_on(foreign):
    for silo in foreign.values():
        assert sum(source.size for source in silo.held_out) > 15_000
        trained = Shingles.of(source.text for source in silo.train)
        assert trained.share(joined(silo.held_out)) < 0.25  # guards, includes and macros, no copied files


def edited(source):
    """Return a source with other layout, other names for what it imports, and every tenth line gone."""
    lines = [line for number, line in enumerate(source.splitlines()) if number % 10]
    return textwrap.indent("\n".join(lines).replace("self", "this"), "  ")


def test_a_file_of_the_standard_library_with_small_edits_is_no_public_text():
    private = Shingles.of(stdlib.read(stdlib.root() / name) for name in ("queue.py", "shelve.py"))
    for name in ("queue.py", "shelve.py"):
        assert private.share(edited(stdlib.read(stdlib.root() / name))) > 10 * public.MOST_SHARED
        assert private.share(edited(public.prose(stdlib.read(stdlib.root() / name)))) > 10 * public.MOST_SHARED
    assert private.share(stdlib.read(stdlib.root() / "colorsys.py")) <= public.MOST_SHARED


def test_what_a_package_copied_from_the_standard_library_never_enters_the_public_corpus():
    private = Shingles.of(stdlib.read(path) for path in stdlib.source_files("email"))
    documents, tally = public.public_corpus(private, packages=["click", "typer", "pluggy"])
    assert documents
    assert all(private.share(document.text) <= public.MOST_SHARED for document in documents)
    assert tally.shared <= public.MOST_SHARED
    assert {document.kind for document in documents} == {"prose", "code"}


def test_the_public_corpus_is_the_same_on_every_call():
    empty = Shingles(frozenset())
    first, _ = public.public_corpus(empty, packages=["click"])
    assert first == public.public_corpus(empty, packages=["click"])[0]


@pytest.mark.parametrize(
    "name",
    ["pip/_vendor/six.py", "x/vendored/a.py", "typing_extensions.py", "x/tests/test_a.py", "x/LICENSE.md", "x/a.so"],
)
def test_copies_tests_and_licences_are_not_lent(name):
    assert not public.lendable(name)


def test_prose_is_docstrings_and_comments_and_nothing_else():
    source = '"""What the module promises to whoever reads it, in one line."""\nsecret = 1  # trailing\n'
    source += "# A whole line of comment that explains\n# the line below and why it must be so.\nx = secret\n"
    text = public.prose(source)
    assert text.startswith("What the module promises")
    assert "explains\nthe line below" in text
    assert "trailing" not in text
    assert "x =" not in text
    assert public.prose("def broken(") == ""


@pytest.mark.parametrize(
    "expression",
    [
        "GPL-3.0-or-later",
        "MIT AND LGPL-2.1-only",
        "unknown",
        "",
        "MPL-2.0",
        "mit-ish",
        "MIT AND (GPL-2.0 OR LGPL-3.0)",
    ],
)
def test_a_licence_that_is_not_on_the_list_is_refused(expression):
    assert not permitted(expression)


@pytest.mark.parametrize("expression", ["MIT", "Apache-2.0 OR GPL-2.0", "BSD-3-Clause AND 0BSD AND MIT"])
def test_a_permissive_licence_is_accepted(expression):
    assert permitted(expression)


def test_old_metadata_that_says_nothing_clear_is_unknown():
    assert declared("", []) == "unknown"
    assert declared("see the file", []) == "unknown"
    gpl = "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
    assert not permitted(declared("MIT", ["License :: OSI Approved :: MIT License", gpl]))
    assert declared("BSD", []) == "BSD-3-Clause"
    assert licence_of("no-such-package-is-installed") == "unknown"


def test_a_package_of_an_unknown_licence_lends_nothing():
    documents, tally = public.public_corpus(Shingles(frozenset()), packages=["no-such-package-is-installed"])
    assert documents == []
    assert tally.refused_licences == {"no-such-package-is-installed": "unknown"}


@given(st.text(), st.text())
def test_layout_and_case_do_not_hide_an_overlap(first, second):
    text = f"{first} {second}"
    shown = text.lower().replace(" ", "\n\n")
    assert runs(shown) == runs(text.lower())
    assert Shingles.of([text]).share(text) in (0.0, 1.0)
