"""Procfile, .env and TOML: what they mean, and how their mistakes are told."""

import inspect
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.cli.config.procfile import parse_env, parse_procfile, port_of
from realtalk_async.cli.config.spec import BadRecipe, draw, waves_of
from realtalk_async.cli.config.toml import parse_toml
from realtalk_async.cli.config.toml_lines import Places, keys_of
from realtalk_async.supervision import GRACEFUL, TRANSIENT, Ladder, ProcessManager
from realtalk_async.supervision.process import MAX_SIZE

NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True)
COMMANDS = st.from_regex(r"[!-~]([ -~]{0,30}[!-~])?", fullmatch=True)


def mistakes(parse, text, **rest):
    with pytest.raises(BadRecipe) as caught:
        parse(text, "file", **rest)
    return [str(one) for one in caught.value.mistakes]


# ---- Procfile


def test_a_procfile_has_names_commands_and_ports():
    """As foreman gives them out."""
    text = "# all of it\n\nweb: serve --port $PORT\nworker:  work  # hard\n"
    recipe = parse_procfile(text, "Procfile", env={"A": "b"}, port=3000, cwd="/app")
    web, worker = recipe.parts
    assert (web.name, web.shown, web.line) == ("web", "serve --port $PORT", 3)
    assert web.command.env == {"A": "b", "PORT": "3000", "PS": "web"}
    assert worker.command.env["PORT"] == "3100"
    assert worker.command.argv == ("/bin/sh", "-c", "work  # hard")
    assert worker.command.cwd == "/app"
    assert web.critical


def test_each_mistake_of_a_procfile_is_told_with_its_line():
    """All of them at once."""
    told = mistakes(parse_procfile, "web: a\nnothing\nweb: b\n: c\n", env={})
    assert [line.split(": ")[0] for line in told] == ["file:2", "file:3", "file:4"]
    assert "line 1" in told[1]


@pytest.mark.parametrize("text", ["", "\n# only this\n"])
def test_a_procfile_without_an_entry_is_a_mistake(text):
    """Nothing to run is hardly what was meant."""
    assert "NAME: COMMAND" in mistakes(parse_procfile, text, env={})[0]


def test_ports_have_an_end():
    """65535, and not beyond."""
    text = "a: x\nb: y\n"
    assert len(parse_procfile(text, "file", env={}, port=65435).parts) == 2
    assert "65535" in mistakes(parse_procfile, text, env={}, port=65436)[0]


@given(st.dictionaries(NAMES, COMMANDS, min_size=1, max_size=6))
def test_what_is_written_in_a_procfile_is_read_from_it(entries):
    """Every name with its command, in order."""
    text = "".join(f"{name}: {command}\n" for name, command in entries.items())
    parts = parse_procfile(text, "file", env={}).parts
    assert {part.name: part.shown for part in parts} == entries
    assert [part.name for part in parts] == list(entries)


@given(st.text())
def test_any_text_is_a_procfile_or_has_mistakes(text):
    """Never anything else."""
    try:
        assert parse_procfile(text, "file", env={}).parts
    except BadRecipe as exc:
        assert exc.mistakes


# ---- .env


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A = b c ", "b c"),
        ("export A=b", "b"),
        ("A=", ""),
        ("A=b # why", "b"),
        ("A=b#c", "b#c"),
        ("A=# why", ""),
        ("A='b # c' # why", "b # c"),
        (r"A='\n'", r"\n"),
        (r'A="b\n\"c\" \\ $D"', 'b\n"c" \\ $D'),
        ("A=x=y", "x=y"),
    ],
)
def test_an_assignment_means(line, value):
    """What it means elsewhere."""
    assert parse_env(f"# all\n\n{line}\n", "file") == {"A": value}


def test_each_mistake_of_an_env_is_told_with_its_line():
    """A lost quote is told with its variable."""
    told = mistakes(parse_env, 'A=1\nB\nC=\'x\nD="x" y\n')
    assert [line.split(": ")[0] for line in told] == ["file:2", "file:3", "file:4"]
    assert "C" in told[1]


@given(st.text(st.characters(blacklist_characters="\0", codec="utf-8")))
def test_what_is_quoted_comes_back(value):
    """Any text but NUL, in double quotes, its special characters escaped."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assert parse_env(f'A="{escaped}"', "file") == {"A": value}


@pytest.mark.parametrize("text", ["", "0", "65536", "http", "٣", "-1"])
def test_a_port_is_a_port(text):
    """From 1 to 65535."""
    with pytest.raises(BadRecipe, match="65535"):
        port_of(text, ".env")


# ---- TOML

FULL = """
strategy = "rest_for_one"
check_interval = 0.5
max_restarts = 20
window = 90

[env]
LANG = "C"
LEVEL = 3

[process.app]
command = ["app", "--fast"]
cwd = "sub"
env = { LANG = "de" }
umask = 0o022
critical = true
depends_on = ["db"]
restart = { mode = "permanent", max_failures = 9, success_statuses = [0, 143] }
ladder = [["INT", 0.5], ["SIGTERM", 2]]
probes = [{ line = "ready", timeout = 30 }, { silence = 5, stream = "stderr" }]
max_size = 1000
devices = ["hw:0", "hw:1"]
device_patience = 5

[process.db]
command = "exec db"
restart = "temporary"
"""


def test_toml_has_everything_that_the_core_can_do():
    """And the parts come in an order in which they can start."""
    recipe = parse_toml(FULL, "file", base="/base")
    assert recipe.strategy == "rest_for_one"
    assert recipe.check_interval == 0.5
    assert (recipe.max_restarts, recipe.window) == (20, 90)
    db, app = recipe.parts
    assert (db.name, db.shown, db.restart.mode) == ("db", "exec db", "temporary")
    assert db.command.env == {"LANG": "C", "LEVEL": "3"}
    assert app.command.argv == ("app", "--fast")
    assert app.command.cwd == "/base/sub"
    assert app.command.env == {"LANG": "de", "LEVEL": "3"}
    assert app.command.options == {"umask": 0o022}
    assert app.critical
    assert not db.critical
    assert app.depends_on == ("db",)
    assert app.restart.max_failures == 9
    assert app.restart.success_statuses == {0, 143}
    assert app.ladder == Ladder((2, 0.5), (15, 2.0))
    assert [probe.purpose for probe in app.probes] == ["readiness", "liveness"]
    assert app.max_size == 1000
    assert app.devices == ("hw:0", "hw:1")
    assert app.device_patience == 5


def test_toml_has_every_probe():
    """By its one key; what else it says is as in the core."""
    text = """
[process.a]
command = "x"
probes = [
    { tcp = 5432, host = "::1", period = 0.5 },
    { http = "http://127.0.0.1:80/healthz", purpose = "liveness", failure_threshold = 5 },
    { exec = ["pg_isready", "-q"], grace = 3, timeout = 2 },
]
"""
    tcp, http, execute = parse_toml(text, "file").parts[0].probes
    assert (tcp.purpose, tcp.period) == ("readiness", 0.5)
    assert (http.purpose, http.failure_threshold) == ("liveness", 5)
    assert (execute.purpose, execute.grace, execute.timeout) == ("liveness", 3, 2)
    assert "5432" in tcp.name
    assert "healthz" in http.name
    assert "pg_isready" in execute.name


def test_what_toml_does_not_say_is_as_in_the_core():
    """The same defaults."""
    (part,) = parse_toml('[process.a]\ncommand = "x"', "file").parts
    assert part.restart == TRANSIENT
    assert part.ladder == GRACEFUL
    assert part.max_size == MAX_SIZE
    assert part.devices == ()
    default = inspect.signature(ProcessManager.start).parameters["device_patience"]
    assert part.device_patience == default.default
    assert not part.critical


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('restart = "allways"', "process.a.restart: must be one of 'permanent', 'tra"),
        ('restrat = "permanent"', "did you mean 'restart'?"),
        ('restart = { max_failures = "x" }', "process.a.restart.max_failures: must be"),
        ("restart = { decay = 0 }", "process.a.restart: decay must be more than 0 s"),
        ("critical = 1", "process.a.critical: must be true or false, not 1"),
        ('depends_on = "b"', "process.a.depends_on: must be a list of texts, not 'b'"),
        ('depends_on = ["b"]', "no process is named 'b'; there are 'a'"),
        ('depends_on = ["a"]', "none could ever start: a"),
        ('ladder = [["TERMM", 2]]', "there is no 'TERMM'"),
        ('ladder = [["TERM", -2]]', "process.a.ladder: must be a number, 0 or more"),
        ('ladder = "TERM"', "process.a.ladder: must be a list of steps such as"),
        ('probes = [{ lin = "x" }]', "process.a.probes[0]: a probe has exactly one of"),
        ('probes = [{ line = "(" }]', "process.a.probes[0].line: must be a regular"),
        ('probes = [{ line = "x", tmout = 1 }]', "did you mean 'timeout'?"),
        ("probes = [{ tcp = 0 }]", "probes[0].tcp: must be a port, 1 to 65535"),
        ('probes = [{ http = "ftp://x" }]', "an http:// or https:// URL is needed"),
        ("probes = [{ exec = [] }]", "must be a text for a shell, or a list of texts"),
        ('probes = [{ tcp = 1, purpose = "x" }]', "must be one of 'readiness', 'liv"),
        ("probes = [{ tcp = 1, failure_threshold = 0 }]", "a number of times, 1 or"),
        ("probes = [{ silence = 0 }]", "must be seconds, more than 0"),
        ('probes = "x"', "process.a.probes: must be a list of tables"),
        ('env = { A = ["x"] }', "process.a.env.A: must be a text or a number"),
        ('env = "A=1"', "process.a.env: must be a table, not 'A=1'"),
        ("max_size = 0", "process.a.max_size: must be a number of bytes, 1 or more"),
        ("cwd = 3", "process.a.cwd: must be a text that is not empty, not 3"),
        ('devices = "hw:0"', "process.a.devices: must be a list of texts, not 'hw:0'"),
        ("umask = true", "process.a.umask: must be a whole number, 0 or more"),
    ],
)
def test_a_mistake_in_toml_is_told_with_line_key_and_what_is_allowed(line, told):
    """So that nobody has to guess."""
    text = f'\n[process.a]\ncommand = "x"\n\n# a mistake\n{line}\n'
    (mistake,) = mistakes(parse_toml, text)
    assert told in mistake
    assert mistake.startswith("file:6: ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = ", "file:1: not TOML"),
        ("[process.a]\ncommand = 3", "file:2: process.a.command: must be a text for"),
        ("[process.a]\ncommand = []", "file:2: process.a.command: must be a text for"),
        ("[process.a]\n", "file:1: process.a: command is missing"),
        ("", "file: there is no [process.NAME] in it"),
        ("process = 1", "file:1: process: must be a table, not 1"),
        ("[proces.a]", "file:1: proces: no such key; did you mean 'process'?"),
        ('strategy = "all"', "'one_for_all'"),
        ("check_interval = 0", "file:1: check_interval: must be more than 0 s"),
    ],
)
def test_a_mistake_around_the_processes_is_told(text, told):
    """As well as one in them."""
    assert any(told in one for one in mistakes(parse_toml, text))


def test_all_mistakes_are_told_at_once():
    """In the order of the file."""
    text = '[process.a]\nrestart = 1\ncommand = ""\n[process.b]\ncommand = "x"\nx = 1\n'
    told = mistakes(parse_toml, text)
    assert [one.split(": ")[0] for one in told] == ["file:2", "file:3", "file:6"]


def test_a_circle_names_who_is_in_it():
    """And nobody else."""
    text = "".join(
        f'[process.{name}]\ncommand = "x"\ndepends_on = ["{need}"]\n'
        for name, need in [("a", "b"), ("b", "c"), ("c", "b")]
    )
    text += '[process.d]\ncommand = "x"\n'
    (told,) = mistakes(parse_toml, text)
    assert told.endswith("none could ever start: a, b, c")


def test_the_order_is_drawn_wave_by_wave():
    """With what is special about each."""
    first, second = draw(parse_toml(FULL, "file"))
    assert first.split()[:2] == ["1", "db"]
    assert second.split()[:2] == ["2", "app"]
    assert "after db" in second
    assert "critical" in second


@given(
    st.dictionaries(
        st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefgh"), max_size=3)
    )
)
def test_each_starts_after_what_it_needs(needs):
    """Whoever is in no wave is in a circle, or behind one."""
    found = waves_of(needs)
    started: set[str] = set()
    for wave in found.waves:
        for name in wave:
            assert {one for one in needs[name] if one in needs} <= started
        started |= set(wave)
    assert started | set(found.circle) == set(needs)
    for name in found.circle:
        assert set(needs[name]) & set(found.circle)


# ---- where keys stand

KEYS = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True)
VALUES = st.sampled_from(
    [
        "1",
        '"a # b"',
        "'[x]'",
        '["a",\n  "b = 1",\n]',
        '"""\nk = 1\n[t]\n"""',
        "{ q = 1 }",
    ]
)


@given(
    st.dictionaries(
        KEYS, st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), max_size=4
    )
)
def test_every_key_is_found_where_it_stands(tables):
    """Whatever brackets and strings stand between."""
    lines: list[str] = []
    where = {}
    for table, keys in tables.items():
        lines.append(f"[{table}]  # its keys")
        where[(table,)] = len(lines)
        for key, value in keys.items():
            where[table, key] = len(lines) + 1
            lines += f"{key} = {value}".split("\n")
    text = "\n".join(lines)
    tomllib.loads(text)
    places = Places(text)
    for path, line in where.items():
        assert places.line_of(path) == line


def test_tables_in_an_array_have_lines_of_their_own():
    """As have the tables in them."""
    text = "[[a.b]]\nc = 1\n[[a.b]]\n[a.b.d]\ne.f = 2\n"
    places = Places(text)
    assert places.line_of(("a", "b", 0, "c")) == 2
    assert places.line_of(("a", "b", 1)) == 3
    assert places.line_of(("a", "b", 1, "d", "e", "f")) == 5
    assert places.line_of(("a", "b", 1, "nowhere")) == 3


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("a.b = 1", ["a", "b"]),
        ('"x y" . b=1', ["x y", "b"]),
        ("'a.b'.c", ["a.b", "c"]),
        ("# no", []),
    ],
)
def test_keys_may_be_dotted_and_quoted(text, keys):
    """As TOML has it."""
    assert keys_of(text) == keys
