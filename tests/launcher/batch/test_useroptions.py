"""What users give as sbatch arguments."""

from __future__ import annotations

import pytest

from shipway_launcher.batch.useroptions import Option, parse_user_options
from shipway_launcher.errors import WrongRequest


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--mem=4G", "mem", "4G"),
        ("-A team", "account", "team"),
        ("-Ateam", "account", "team"),
        ("--account team", "account", "team"),
        ("--constraint=a100&nvlink", "constraint", "a100&nvlink"),
        ("--comment=two words", "comment", "two words"),
        ("--comment=`id`", "comment", "`id`"),
        ("--comment=it's", "comment", "it's"),
        ("--comment='single quoted'", "comment", "single quoted"),
        ("--comment=-x", "comment", "-x"),
        ("--acctg-freq=task=60,energy=30", "acctg-freq", "task=60,energy=30"),
        ("--gres-flags=enforce-binding", "gres-flags", "enforce-binding"),
        ('--wckey="my project"', "wckey", "my project"),
        ('--wckey="a\\"b\\\\c\\u00e9"', "wckey", 'a"b\\cé'),
        ("--wckey=día", "wckey", "día"),
        ("--exclude=node007,node012", "exclude", "node007,node012"),
        ("-x n[1-2],n4", "exclude", "n[1-2],n4"),
        ("--signal=TERM@60", "signal", "TERM@60"),
        ("-t5", "time", "5"),
        ("--nice=-5", "nice", "-5"),
        ("--exclusive=user", "exclusive", "user"),
        ("--exclusive", "exclusive", None),
        ("--hold", "hold", None),
        ("  --hold  ", "hold", None),
        ("--thisisnotavalidslurmoption = willfail", "thisisnotavalidslurmoption", "= willfail"),
        ("--newer-than-this-table=1", "newer-than-this-table", "1"),
    ],
)
def test_an_option_is_read(argument: str, name: str, value: str | None) -> None:
    assert parse_user_options([argument]) == [Option(name=name, value=value)]


def test_several_options_in_one_argument() -> None:
    assert parse_user_options(["--mem=4G --time=5 -HA team", "", "--gres=lic:1"]) == [
        Option(name="mem", value="4G"),
        Option(name="time", value="5"),
        Option(name="hold"),
        Option(name="account", value="team"),
        Option(name="gres", value="lic:1"),
    ]


_OURS = """
--output=/x|-o/x|-o /x|--error x|--input=x|--open-mode=append|--chdir=/|-D /|--job-name=x|-J x|-Jx
--partition=x|--part=x|-p x|--nodes 4|--nodes=4|-N4|--ntasks=1|-n1|--ntasks-per-node=1
--tasks-per-node=1|--ntasks-per-gpu=1|--gpus=1|-G7|--gpu=2|--gpus-per-node=1|--gpus-per-task=1
--array=1-9|-a1|--external|--ext|--autocomplete=x|--cluster=x|--ntasks-per-tres=1|--wrap=id|--parsable|--test-only|--wait|-W|--uid=0|--gid=0|--export=NONE
--export-file=x|--get-user-env|--requeue|--no-requeue|--clusters=x|-M x|--help|--usage|-h|-V
--version|--container=x|-HW|--mem=4G --wrap=id|--hold -J x
"""


@pytest.mark.parametrize("argument", _OURS.strip().replace("\n", "|").split("|"))
def test_what_the_launcher_decides_is_refused_in_the_familiar_form(argument: str) -> None:
    with pytest.raises(
        WrongRequest, match=r"^unable to launch job: slurm option \S+ is not configurable$"
    ):
        parse_user_options([argument])


@pytest.mark.parametrize(
    "argument",
    [
        *("notanoption", "--", "-", "/bin/sh", "a b", "=x", "--=x", "-1", "--1", "-é"),
        *("--comment=x\n#SBATCH --uid=0", "--comment=a\0b", '--wckey="a\\nb"', "--mem=1\r"),
        *("-A", "--account", "--hold=1", "--hold now", "--exclusive now", "-Z"),
        '--comment="a b" c',
    ],
)
def test_what_is_no_option_is_refused(argument: str) -> None:
    with pytest.raises(WrongRequest, match="slurm option"):
        parse_user_options([argument])
