"""Sources and targets of the built-in dates agree, and are the same on every machine."""

import datetime
import re

import pytest

from train.data.sources import dates

COUNT = 4000
HASH = (
    "0cde6802e67e771dcfaa9b263b9608ac0f693ee6209f9f8dab407ac0932ba2de"  # of 100 pairs with seed 0
)
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@pytest.fixture(scope="module")
def pairs():
    documents = list(dates.read(COUNT).documents())
    return list(zip(documents[::2], documents[1::2], strict=True))


def test_every_target_is_a_date_in_iso_form(pairs):
    assert len(pairs) == COUNT
    for _, target in pairs:
        date = datetime.date.fromisoformat(target)
        assert date.isoformat() == target
        assert 1900 <= date.year <= 2099


@pytest.mark.parametrize(
    ("pattern", "day", "month", "year"),
    [
        (r"(\d\d)\.(\d\d)\.(\d{4})", 1, 2, 3),
        (r"(\d\d)/(\d\d)/(\d{4})", 2, 1, 3),
        (r"(\w+) (\d+), (\d{4})", 2, 1, 3),
        (r"(\d+)(?:st|nd|rd|th) of (\w+), (\d{4})", 1, 2, 3),
        (r"\w+,? (\d+) (\w+) (\d{4})", 1, 2, 3),
        (r"in the year (\d{4}), on (\w+) (\d+)(?:st|nd|rd|th)", 3, 2, 1),
    ],
)
def test_a_source_is_the_date_of_its_target(pairs, pattern, day, month, year):
    matches = [(re.fullmatch(pattern, source.lower()), target) for source, target in pairs]
    matches = [(match, target) for match, target in matches if match]
    assert len(matches) > COUNT / 2 / len(dates.FORMATS)
    for match, target in matches:
        name = match[month][:3]
        number = MONTHS.index(name) + 1 if name in MONTHS else int(name)
        assert datetime.date(int(match[year]), number, int(match[day])).isoformat() == target


def test_weekdays_are_right(pairs):
    pattern = re.compile(rf"\b({'|'.join(DAYS)})(?:day|sday|nesday|rsday|urday)?\b")
    matches = [(pattern.search(source.lower()), target) for source, target in pairs]
    matches = [(match, target) for match, target in matches if match]
    assert len(matches) > COUNT / 5
    for match, target in matches:
        assert DAYS[datetime.date.fromisoformat(target).weekday()] == match[1]


def test_ordinals_are_correct_english():
    endings = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}
    for day in range(1, 32):
        date = datetime.date(2026, 1, day)
        assert dates.format_date(date, "{nth}") == f"{day}{endings.get(day, 'th')}"
    ordinals = [
        dates.format_date(datetime.date(2026, 1, day), "{ordinal}") for day in (8, 20, 22, 31)
    ]
    assert ordinals == ["eighth", "twentieth", "twenty-second", "thirty-first"]
    assert len(set(dates.ORDINALS)) == 31


def test_no_source_is_repeated(pairs):
    assert len({source.lower() for source, _ in pairs}) == COUNT
    year = [datetime.date(2026, 1, 1) + datetime.timedelta(day) for day in range(365)]
    texts = {dates.format_date(date, form).lower() for date in year for form in dates.FORMATS}
    assert len(texts) == 365 * len(dates.FORMATS)
    assert len(dates.FORMATS) >= 12


def test_letters_are_uppercase_and_lowercase(pairs):
    months = [source for source, _ in pairs if re.search(r"[a-zA-Z]{5}", source)]
    for case in (str.isupper, str.islower):
        assert 0.2 < sum(map(case, months)) / len(months) < 0.3


def test_the_pairs_are_a_function_of_count_and_seed(pairs):
    assert dates.read(100).fingerprint == HASH
    assert list(dates.read(100).documents()) == [side for pair in pairs[:100] for side in pair]
    assert dates.read(100, seed=1).fingerprint != HASH


def test_more_pairs_than_there_are_are_refused():
    with pytest.raises(ValueError, match="there are only 1,460,980"):
        dates.read(2_000_000)
