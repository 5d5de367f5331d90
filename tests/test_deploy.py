"""What the server is shipped in: nothing is built, the files are read as their programs would read them."""

import configparser
import fnmatch
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from mretrieve import cli, cli_mcp, cli_serve
from mretrieve.serve.auth import SCOPES, read_keys
from mretrieve.serve.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "deploy" / "README.md").read_text("utf-8")


def commands():
    """Name -> command, of the command line as it is, and of the two that the files here use."""
    found = {}
    for app in (cli.app, cli_serve.app, cli_mcp.app):
        group = typer.main.get_group(app)
        found |= {name: group.commands[name] for name in group.commands}
    return found


def check_command(words):
    """Parse `serve /indexes --port 8080` as the command line would."""
    name, *arguments = words
    if name in ("--help", "--version"):
        return {}
    command = commands()[name]
    return command.make_context(name, list(arguments)).params


def blocks(kind):
    """The code blocks of one language in the notes."""
    return re.findall(rf"^```{kind}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def read_dockerfile():
    """[(instruction, rest)] with continued lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines()]


def read_stages():
    """Stage -> (the stage or image that it is made from, its instructions)."""
    stages = {}
    for instruction, rest in read_dockerfile():
        if instruction == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            stages[name] = (base, [])
        elif stages:
            stages[name][1].append((instruction, rest))
    return stages


def all_of(stage):
    """The instructions of a stage after those of the stages below it."""
    stages, found = read_stages(), []
    while stage in stages:
        stage, own = stages[stage]
        found = own + found
    return found


def last(stage, instruction):
    return [rest for name, rest in all_of(stage) if name == instruction][-1]


COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))


def test_the_parser_of_commands_refuses_what_the_command_line_would():
    with pytest.raises(Exception, match="No such option"):
        check_command(["serve", "/indexes", "--nope"])
    with pytest.raises(KeyError):
        check_command(["nope"])
    assert check_command(["serve", "a", "--port", "1"])["port"] == 1


def test_stages_stand_on_stages_before_them_and_the_default_is_the_cpu():
    stages = read_stages()
    names = list(stages)
    for place, (base, instructions) in enumerate(stages.values()):
        assert base in names[:place] or base == "python:${PYTHON}-slim"
        for instruction, rest in instructions:
            if found := re.match(r"--from=(\S+)", rest) if instruction == "COPY" else None:
                assert found[1] in names[:place]
    assert names[-1] == "cpu"
    assert {"cpu", "gpu"} <= stages.keys()


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_image_starts_the_server_as_nobody_special(target):
    assert last(target, "USER") == "mretrieve"
    entry, command = (json.loads(last(target, name)) for name in ("ENTRYPOINT", "CMD"))
    assert entry == ["tini", "--", "mretrieve"]
    parsed = check_command(command)
    assert parsed["host"] == "0.0.0.0" and parsed["api_key_file"]  # strangers need a key
    assert not parsed["insecure"]
    assert int(last(target, "EXPOSE")) == parsed["port"] == Settings().port
    assert f"http://127.0.0.1:{parsed['port']}/ready" in last(target, "HEALTHCHECK")
    assert set(json.loads(last(target, "VOLUME"))) == {"/indexes", "/cache"}


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_files_are_written_to_a_volume_before_it_is_declared(target):
    """Docker forgets what later instructions write below a volume."""
    instructions = [name for name, _ in all_of(target)]
    assert instructions.index("VOLUME") == len(instructions) - 1


@pytest.mark.parametrize("stage", ["build-cpu", "build-gpu"])
def test_packages_are_those_of_the_project(stage):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    installs = [rest for name, rest in all_of(stage) if name == "RUN" and ".[" in rest]
    extras = re.search(r'"\.\[([\w,]+)\]"', installs[-1])[1].split(",")
    assert set(extras) <= project["optional-dependencies"].keys()
    assert {"lucene", "serve", stage.removeprefix("build-")} <= set(extras)
    assert "--constraint constraints.txt" in installs[-1]
    python = re.search(r"^ARG PYTHON=(\S+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)[1]
    assert project["requires-python"] == f">={python}"


def test_what_is_copied_exists_and_reaches_the_builder():
    lines = [
        line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] not in ("#", "")
    ]
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = set()
    for name, rest in read_dockerfile():
        if name == "COPY" and not rest.startswith("--from"):
            copied |= set(rest.split()[:-1])
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    needed = {packaged["project"]["readme"], *packaged["project"]["license-files"], "pyproject.toml"}
    needed |= {folder for folder in packaged["tool"]["setuptools"]["package-dir"].values()}
    assert needed <= copied
    assert not any(fnmatch.fnmatch("mretrieve/cli.py", pattern) for pattern in lines[1:] if pattern[0] != "!")


def test_what_images_run_to_fill_their_cache_can_be_imported():
    calls = [call for _, rest in all_of("cpu") for call in re.findall(r'python -c "([^"]+)"', rest)]
    assert len(calls) == 2
    for call in calls:
        imports, _, used = call.partition("; ")
        names = {}
        exec(imports, names)
        assert callable(names[used.removesuffix("()")])


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_services_fit_the_images(name):
    service = COMPOSE["services"][name]
    check_command(service["command"])
    assert service["build"]["target"] in read_stages()
    assert service["image"] == f"mretrieve:{service['build']['target']}"
    for volume in service["volumes"]:
        source, _, target = volume.partition(":")
        assert source in COMPOSE["volumes"]
        assert target in json.loads(last(service["build"]["target"], "VOLUME"))


@pytest.mark.parametrize("name", ["server", "server-gpu"])
def test_servers_need_a_key_and_have_time_to_finish(name):
    service = COMPOSE["services"][name]
    parsed = check_command(service["command"])
    [secret] = service["secrets"]
    assert str(parsed["api_key_file"]) == f"/run/secrets/{secret}"
    assert secret in COMPOSE["secrets"]
    assert int(service["stop_grace_period"].removesuffix("s")) > Settings().grace_seconds
    [port] = service["ports"]
    assert port == f"127.0.0.1:{parsed['port']}:{parsed['port']}"
    volume = service["volumes"][0].partition(":")[2]
    assert [str(index) for index in parsed["indexes"]] == [volume]


def test_only_the_gpu_service_asks_for_a_gpu():
    devices = {name: "deploy" in service for name, service in COMPOSE["services"].items()}
    assert devices == {"server": False, "server-gpu": True, "tool": False}


def test_every_command_in_the_notes_is_one():
    found = []
    for block in [
        *blocks("sh"),
        *re.findall(r"^# (docker compose run.*?)(?:  .*)?$", _compose_text(), re.MULTILINE),
    ]:
        for line in block.splitlines():
            words = shlex.split(line)
            if words[:1] == ["mretrieve"]:
                found.append(words[1:])
            elif words[:3] == ["docker", "compose", "run"]:
                found.append(words[words.index("tool") + 1 :])
            elif words[:2] == ["docker", "run"]:
                found.append(words[words.index("mretrieve:cpu") + 1 :])
            elif words[:2] == ["docker", "build"]:
                assert words[words.index("--target") + 1] in read_stages()
    assert {words[0] for words in found} == {"index", "serve"}
    for words in found:
        check_command(words)


def _compose_text():
    return (ROOT / "compose.yaml").read_text("utf-8")


def test_the_key_file_of_the_notes_can_be_read(tmp_path):
    [text] = blocks("keys")
    (tmp_path / "keys").write_text(text)
    keys = read_keys(tmp_path / "keys")
    assert [key.requests_per_minute for key in keys] == [None, 600, None, None]
    assert [key.scopes for key in keys] == [None, None, {"search", "indexes"}, {"metrics"}]
    listed = re.search(r"the parts that it opens \((.*?)\)", README)[1]
    assert set(re.findall(r"\w+", listed)) == set(SCOPES)


def test_the_systemd_unit_starts_the_server():
    [text] = blocks("ini")
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string(text)
    service = unit["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program.endswith("/mretrieve")
    parsed = check_command(words)
    credential = service["LoadCredential"].partition(":")[0]
    assert str(parsed["api_key_file"]) == f"%d/{credential}"
    assert int(service["TimeoutStopSec"]) > Settings().grace_seconds
    environment = dict(one.split("=", 1) for one in service["Environment"].split())
    assert environment["MRETRIEVE_CACHE"] == f"/var/cache/{service['CacheDirectory']}"


def test_the_proxies_let_through_what_the_server_takes():
    [nginx], [caddy] = blocks("nginx"), blocks("caddy")
    megabytes = Settings().max_body_bytes >> 20
    assert f"client_max_body_size {megabytes}m;" in nginx
    assert f"max_size {megabytes}MiB" in caddy
    assert nginx.count("{") == nginx.count("}")
    address = f"127.0.0.1:{Settings().port}"
    assert f"server {address};" in nginx and f"reverse_proxy {address}" in caddy


def test_the_pods_of_kubernetes_are_probed_where_the_server_answers():
    [text] = blocks("yaml")
    deployment = yaml.safe_load(text)
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    parsed = check_command(container["args"])
    probes = {
        name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert [probe["path"] for probe in probes.values()] == ["/health", "/ready", "/health"]
    assert {probe["port"] for probe in probes.values()} == {parsed["port"]}
    assert pod["terminationGracePeriodSeconds"] > Settings().grace_seconds
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(path) for path in parsed["indexes"]} | {str(parsed["api_key_file"].parent)} == mounts
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    assert deployment["spec"]["selector"]["matchLabels"] == {"app": "mretrieve"}


def test_the_agents_settings_start_the_command():
    [text] = blocks("json")
    [server] = json.loads(text)["mcpServers"].values()
    assert server["command"] == "mretrieve"
    check_command(server["args"])
