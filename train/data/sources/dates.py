"""The built-in pairs: dates written in English, and the same dates in ISO format.

    on Monday, the 23rd of November 2026     2026-11-23
    MON 23 NOV 2026                          2026-11-23
    11/23/2026                               2026-11-23
    the twenty-third of november, 2026       2026-11-23

The parts are reordered, a month is one word on one side and two digits on the other, and weekdays
have no counterpart. So attention has something to align, and a network still learns the task in
minutes.
"""

import datetime

import numpy as np

from train.data.sources import parallel_text
from train.data.sources.parallel_text import PairStrings

FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)

# No two formats give the same text, not even in May, which is its own abbreviation. With slashes,
# the month comes first; with full stops, the day does.
FORMATS = (
    "{nth} of {month}, {year}",
    "{month} {day}, {year}",
    "{month} {nth}, {year}",
    "{day} {month} {year}",
    "{mon} {day:02} {year}",
    "{year}-{mon}-{day:02}",
    "{day}-{mon}-{year}",
    "{wday} {day} {mon} {year}",
    "{wday}, {day:02} {mon} {year}",
    "{weekday}, {month} the {nth}, {year}",
    "{weekday} {day} {month} {year}",
    "on {weekday}, the {nth} of {month} {year}",
    "the {nth} day of {month} in the year {year}",
    "in the year {year}, on {month} {nth}",
    "the {ordinal} of {month}, {year}",
    "{month} the {ordinal}, {year}",
    "{year}, {day} {month}",
    "{year} {mon} {day:02}",
    "{day:02}.{number:02}.{year}",
    "{number:02}/{day:02}/{year}",
)
# strftime would depend on the locale.
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
UNITS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
ORDINALS = (
    *UNITS,
    *("tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth"),
    *("seventeenth", "eighteenth", "nineteenth", "twentieth", *(f"twenty-{u}" for u in UNITS)),
    *("thirtieth", "thirty-first"),
)
ENDINGS = {1: "st", 2: "nd", 3: "rd"}


def read(count: int = 100_000, seed: int = 0) -> PairStrings:
    """Return `count` pairs from the years 1900 to 2099, with no date twice in the same format.

    A quarter is in upper case, a quarter in lower case. The same count and seed give the same pairs
    on any machine.

    Raises:
      ValueError: If `count` exceeds the number of pairs.
    """
    most = ((LAST - FIRST).days + 1) * len(FORMATS)
    if count > most:
        raise ValueError(f"there are only {most:,} dates in all formats, not {count:,}")
    # The raw output of a bit generator is stable across numpy versions, np.random.Generator is not.
    draws = np.random.PCG64(seed).random_raw(most)
    numbers = np.argsort(draws, kind="stable")[:count]
    cases = (str, str, str.upper, str.lower)

    def pair(number: int) -> parallel_text.Pair:
        day, form = divmod(number, len(FORMATS))
        date = FIRST + datetime.timedelta(day)
        return cases[draws[number] % len(cases)](format_date(date, FORMATS[form])), date.isoformat()

    return parallel_text.strings(map(pair, numbers.tolist()))


def format_date(date: datetime.date, form: str) -> str:
    """Return a date in one of FORMATS."""
    day, month, weekday = date.day, MONTHS[date.month - 1], WEEKDAYS[date.weekday()]
    ending = "th" if 10 < day < 20 else ENDINGS.get(day % 10, "th")
    return form.format(
        day=day,
        nth=f"{day}{ending}",
        ordinal=ORDINALS[day - 1],
        month=month,
        mon=month[:3],
        number=date.month,
        year=date.year,
        weekday=weekday,
        wday=weekday[:3],
    )
