import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.cli.config.procfile import parse_procfile
from realtalk_async.cli.config.spec import InvalidSpec


def problems(parse, text, **rest):
    with pytest.raises(InvalidSpec) as caught:
        parse(text, "file", **rest)
    return [str(one) for one in caught.value.problems]


NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True)
COMMANDS = st.from_regex(r"([!-~][ -~]{0,30})?[!-\[\]-~]", fullmatch=True)


def test_a_procfile_gives_names_commands_and_ports():
    text = "# all of it\n\nweb: serve --port $PORT\nworker:  work  # hard\n"
    spec = parse_procfile(text, "Procfile", env={"A": "b"}, port=3000, cwd="/app")
    web, worker = spec.processes
    assert (web.name, web.command_line, web.line) == ("web", "serve --port $PORT", 3)
    assert web.command.env == {"A": "b", "PORT": "3000", "PS": "web"}
    assert worker.command.env["PORT"] == "3100"
    assert worker.command.argv == ("/bin/sh", "-c", "work  # hard")
    assert worker.command.cwd == "/app"
    assert web.critical


def test_each_problem_of_a_procfile_has_its_line():
    found = problems(parse_procfile, "web: a\nnothing\nweb: b\n: c\n", env={})
    assert [line.split(": ")[0] for line in found] == ["file:2", "file:3", "file:4"]
    assert "line 1" in found[1]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("web: gunicorn -w 4 \\\n  app:app\n", "gunicorn -w 4   app:app"),
        ("web: gun\\\nicorn\n", "gunicorn"),
        ("web: \\\n  serve \\\n  --all\n", "serve   --all"),
        ("web: sh -c 'a; \\\n  b'\n", "sh -c 'a;   b'"),
        ("web: echo \\\\\n# worker: no\n", "echo \\\\"),
        ("# no \\\nweb: serve\n", "serve"),
        ("web: serve \\\n\n", "serve"),
        ("web: serve \\", "serve"),
    ],
)
def test_a_backslash_at_the_end_continues_a_line_as_in_a_shell(text, command):
    (web,) = parse_procfile(text, "file", env={}).processes
    assert web.command_line == command


def test_the_number_of_a_line_counts_the_continued_lines():
    spec = parse_procfile("a: x \\\n y\n\nb: z\n", "file", env={})
    assert [one.line for one in spec.processes] == [1, 4]


def test_release_runs_once_and_before_all_others():
    spec = parse_procfile("web: serve\nrelease: migrate\nworker: w\n", "f", env={})
    assert [one.name for one in spec.processes] == ["release", "web", "worker"]
    release, web, worker = spec.processes
    assert (release.oneshot, release.restart.mode) == (True, "temporary")
    assert (web.depends_on, worker.depends_on) == (("release",), ("release",))
    # foreman numbers the entries as they stand in the file.
    assert [one.command.env["PORT"] for one in spec.processes] == [
        "5100",
        "5000",
        "5200",
    ]


def test_a_problem_gives_the_remedy_and_no_text_of_the_line():
    found = problems(parse_procfile, "API_KEY=s3cret\nweb:\nhm s3cret\n", env={})
    assert ".env" in found[0]
    assert "web has no command" in found[1]
    assert "s3cret" not in " ".join(found)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("web gunicorn app", "there is no colon"),
        ("[program:web]", "a section is of TOML"),
        ("// web", "a comment begins with #"),
        ("; web", "a comment begins with #"),
        ("css/js: build", "letters, digits, _ . - in the name"),
    ],
)
def test_a_line_that_is_no_entry_has_the_remedy_of_its_kind(line, remedy):
    (found,) = problems(parse_procfile, f"web: serve\n{line}\n", env={})
    assert found.startswith("file:2: ")
    assert remedy in found


@pytest.mark.parametrize(
    "line",
    ["{% if redis %}", "worker_{{ name }}: work", "{{#web}}", "<% if x %>", "{# a #}"],
)
def test_a_template_is_called_one_once(line):
    text = f"web: serve\n{line}\nother {{{{ x }}}}\nsocketio: {{{{ node }}}} x.js\n"
    (found,) = problems(parse_procfile, text, env={})
    assert found.startswith("file:2: it is a template")


def test_a_command_may_have_braces_of_its_own():
    text = "ps: docker ps --format '{{.Names}}'\n"
    (ps,) = parse_procfile(text, "file", env={}).processes
    assert ps.command_line == "docker ps --format '{{.Names}}'"


@pytest.mark.parametrize("text", ["", "\n# only this\n"])
def test_a_procfile_without_an_entry_is_refused(text):
    assert "NAME: COMMAND" in problems(parse_procfile, text, env={})[0]


def test_ports_beyond_65535_are_refused():
    text = "a: x\nb: y\n"
    assert len(parse_procfile(text, "file", env={}, port=65435).processes) == 2
    assert "65535" in problems(parse_procfile, text, env={}, port=65436)[0]


@given(st.dictionaries(NAMES, COMMANDS, min_size=1, max_size=6))
def test_every_entry_is_read_in_order(entries):
    text = "".join(f"{name}: {command}\n" for name, command in entries.items())
    processes = parse_procfile(text, "file", env={}).processes
    assert {one.name: one.command_line for one in processes} == entries
    assert [one.name for one in processes] == list(entries)


@given(st.text())
def test_any_text_is_a_procfile_or_has_problems(text):
    try:
        assert parse_procfile(text, "file", env={}).processes
    except InvalidSpec as exc:
        assert exc.problems


def ports(spec):
    return {one.name: one.command.env["PORT"] for one in spec.processes}


def test_processes_that_run_keep_their_port_when_the_file_is_read_again():
    first = parse_procfile("a: x\nb: x\nc: x\n", "Procfile", env={}, port=7000)
    text = "new: x\nc: x\na: y\nmore: x\n"
    again = parse_procfile(text, "Procfile", env={}, port=7000, running=first)
    assert ports(again) == {"new": "7100", "c": "7200", "a": "7000", "more": "7300"}


def test_another_first_port_gives_all_processes_other_ports():
    first = parse_procfile("a: x\nb: x\n", "Procfile", env={}, port=7000)
    again = parse_procfile("b: x\na: x\n", "Procfile", env={}, port=8000, running=first)
    assert ports(again) == {"b": "8000", "a": "8100"}
