# SPDX-License-Identifier: Apache-2.0
"""A strict reader of Prometheus' text format, version 0.0.4: what a scraper might let pass is an
error here, so that a test of vgpud's /metrics fails on the first slip.

Beyond the grammar it demands what the project's conventions say: HELP and TYPE before the first
sample of a family and once, a family in one piece, no series twice, counters in _total, base units,
and histograms whose buckets rise, end with +Inf, and agree with _count.
"""
import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(r"(%s)(?:\{((?:%s)(?:,%s)*)?\})? (\S+)" % (NAME, LABEL, LABEL))
NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|Inf)|NaN")
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
BAD_UNITS = re.compile(r"_(ns|us|ms|milliseconds|mib|kib|mb|percent)(_|$)")


class FormatError(Exception):
    pass


def demand(condition, line, why):
    if not condition:
        raise FormatError("%s: %r" % (why, line))


class Family:
    def __init__(self, name, text):
        self.name, self.help, self.type = name, text, None
        self.samples = {}  # (sample's name, sorted labels) -> value


def unescape(text):
    return re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), text)


def read_value(word, line):
    demand(NUMBER.fullmatch(word), line, "no number")
    return float(word.replace("Inf", "inf"))


def read_sample(line, family):
    match = SAMPLE.fullmatch(line)
    demand(match, line, "no sample")
    labels = [(key, unescape(value)) for key, value in re.findall(LABEL, match[2] or "")]
    demand(len({key for key, _ in labels}) == len(labels), line, "a label twice")
    demand(family and family.type, line, "no HELP and TYPE before it")
    parts = PARTS.get(family.type, ("",))
    demand(match[1] in [family.name + part for part in parts], line, "not of " + family.name)
    key = (match[1], tuple(sorted(labels)))
    demand(key not in family.samples, line, "a series twice")
    family.samples[key] = read_value(match.groups()[-1], line)


def read_comment(line, families, family):
    words = line.split(" ", 3)
    demand(len(words) == 4 and words[1] in ("HELP", "TYPE"), line, "no HELP or TYPE")
    demand(re.fullmatch(NAME, words[2]), line, "no name")
    if words[1] == "HELP":
        demand(words[2] not in families, line, "a family twice")
        demand(not re.search(r"\\[^\\n]|\\$", words[3]), line, "a bad escape")
        families[words[2]] = Family(words[2], words[3])
        return families[words[2]]
    demand(family and family.name == words[2] and not family.type, line, "TYPE without its HELP")
    demand(words[3] in TYPES, line, "no type")
    family.type = words[3]
    return family


def check_histogram(family):
    series = {}
    for (name, labels), value in family.samples.items():
        own = tuple(label for label in labels if label[0] != "le")
        bound = dict(labels).get("le")
        demand((bound is not None) == name.endswith("_bucket"), name, "le where it is not, or not")
        series.setdefault(own, {})[bound or name] = value
    for own, values in series.items():
        total = values.pop(family.name + "_count")
        values.pop(family.name + "_sum")
        bounds = sorted(values, key=lambda le: math.inf if le == "+Inf" else float(le))
        demand(bounds[-1] == "+Inf" and list(values) == bounds, own, "no order of buckets")
        counts = [values[le] for le in bounds]
        demand(counts == sorted(counts) and counts[-1] == total, own, "buckets are not cumulative")


def check_conventions(family):
    demand(not BAD_UNITS.search(family.name), family.name, "no base unit")
    demand((family.type == "counter") == family.name.endswith("_total"), family.name, "_total")
    if family.type == "counter":
        demand(all(v >= 0 for v in family.samples.values()), family.name, "a counter below 0")
    if family.type == "histogram":
        check_histogram(family)


def parse(text):
    """{name: Family}; raises FormatError."""
    demand(text.endswith("\n"), text[-40:], "the last line has no end")
    families, family = {}, None
    for line in text[:-1].split("\n"):
        if line.startswith("#"):
            family = read_comment(line, families, family)
        else:
            read_sample(line, family)
    for family in families.values():
        demand(family.type, family.name, "no TYPE")
        check_conventions(family)
    return families


def value(families, name, **labels):
    """Of one series; histograms by the name of the part."""
    for family in families.values():
        found = family.samples.get((name, tuple(sorted(labels.items()))))
        if found is not None:
            return found
    raise KeyError(name, labels)
