"""A board in words: the recommendation with how sure it is, and the leaderboard as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from ..errors import ArgumentError, nearest_name
from ..report import Words
from .methods import BASELINES
from .ranks import Ranks
from .statistics import Comparison, Power, Row, higher_is_better, is_share
from .tables import amount, gap, memory_text

__all__ = ["leaderboard", "recommend"]

_SENTENCES = {
    "en": {
        "only": "{winner} is the only method that was trained: {measure} {value} ({low}–{high}).",
        "use": "Use {winner}: {measure} {value} ({low}–{high}).",
        "nothing": "Nothing could be measured: {measure} has no value for any method.",
        "beats": "It beats {worse} by {difference}{points} {measure} ({low}–{high}), {won} of {total} {trainings}",
        "points": " points of",
        "of": " of",
        "tied_too": "; {names} cannot be told apart from it.",
        "tied": "It cannot be told apart from {names} with these data and seeds.",
        "also": "It also beats {names}.",
        "sure": "Every other method is behind by more than chance explains.",
        "raw_wins": "But {worse} without any training is not worse: {difference} ahead. "
        "Train longer, or with more data, before you use a learned distance.",
        "raw_tied": "That is not surely better than {names} without any training.",
        "unlearned": "Worse than {raw} without any training: {names}. Too short a training, or a collapse: "
        "look at the training curves.",
        "one_seed": "One seed only: the luck of training is not in these intervals; repeat with seeds=3.",
        "power": "If {difference} is the true difference to {other}, {what} would decide it in 4 of 5 repetitions.",
        "power_seeds": "about {seeds} seeds",
        "power_query": "about {factor} times the test queries",
        "power_class": "about {factor} times the test classes",
        "power_none": "A difference of {difference} to {other} is too small to be decided with {seeds} seeds or "
        "{factor} times the test data.",
        "ranks": "Over {datasets} data sets the average ranks are {ranks}{friedman}; two methods differ from "
        "{critical} ranks on.",
        "friedman": " (Friedman p {p})",
        "seeds": "seeds",
        "trainings": "trainings",
        "or": " or ",
        "and": " and ",
        "comma": ", ",
    },
    "ja": {
        "only": "学習した手法は {winner} だけです。{measure} は {value}（{low}–{high}）でした。",
        "use": "{winner} をおすすめします。{measure} は {value}（{low}–{high}）です。",
        "nothing": "測定できませんでした。どの手法でも {measure} の値が求まりません。",
        "beats": "{measure} で {worse} を {difference}{points}（{low}–{high}）上回り、"
        "{total} {trainings}のうち {won} {counter}で勝ちました。",
        "points": " ポイント",
        "of": "",
        "tied_too": "{names} との差があるとは言えません。",
        "tied": "ただし、このデータとシード数では {names} との差があるとは言えません。",
        "also": "{names} も上回りました。",
        "sure": "ほかのどの手法との差も、偶然では説明できない大きさです。",
        "raw_wins": "ただし、学習しない {worse} のほうが {difference}上でした。"
        "学習した距離を使う前に、学習回数かデータを増やしてください。",
        "raw_tied": "ただし、学習しない {names} より確かに良いとは言えません。",
        "unlearned": "{names} は、学習しない {raw} を下回りました。"
        "学習が足りないか、埋め込みがつぶれています。学習曲線を確かめてください。",
        "one_seed": "シードが 1 個なので、この区間に学習ごとのばらつきは含まれません。seeds=3 で確かめてください。",
        "power": "{other} との差が本当に {difference}なら、{what}で、5 回に 4 回は差を確かめられます。",
        "power_seeds": "約 {seeds} 個のシード",
        "power_query": "約 {factor} 倍のテストデータ",
        "power_class": "約 {factor} 倍のテストクラス",
        "power_none": "{other} との {difference}の差は小さく、シード {seeds} 個でも"
        "テストデータ {factor} 倍でも確かめられません。",
        "ranks": "{datasets} 個のデータセットでの平均順位は {ranks} です{friedman}。"
        "順位の差が {critical} を超えれば差があると言えます。",
        "friedman": "（フリードマン検定 p {p}）",
        "seeds": "個のシード",
        "trainings": "回の学習",
        "or": "か、",
        "and": " と ",
        "comma": "、",
    },
}


def recommend(
    rows: Sequence[Row],
    comparisons: Sequence[Comparison],
    measure: str,
    winner: str,
    lang: str = "en",
    *,
    ranks: Ranks | None = None,
    unit: Literal["query", "class"] = "query",
    grid: bool = False,
) -> str:
    """Say which method to use and how sure that is.

    The winner has the best mean. A method counts as beaten when the 95 % interval of the paired difference lies
    above zero and the corrected p-value is below 0.05; every other one is named as "cannot be told apart", and of the
    nearest of these is said what would decide it.

    Args:
        rows: All methods, the best first.
        comparisons: The winner against each other method.
        measure: The measure that ranks.
        winner: The method to recommend.
        lang: ``"en"`` or ``"ja"``.
        ranks: Average ranks over several data sets.
        unit: What the intervals resample.
        grid: Whether a training is told by more than its seed: there are folds or data sets.
    """
    if lang not in _SENTENCES:
        raise ArgumentError(f"lang must be 'en' or 'ja'; got '{lang}'{nearest_name(lang, _SENTENCES)}")
    words = _SENTENCES[lang]
    shown = Words(lang).measure(measure)
    best = next(row for row in rows if row.method == winner).measures[measure]
    if math.isnan(best.value):
        return words["nothing"].format(measure=shown)
    rivals = [c for c in comparisons if not _meets_baseline(c)]
    ends = {name: amount(measure, getattr(best, name)) for name in ("value", "low", "high")}
    one_seed = max(len(row.per_seed[measure]) for row in rows) == 1
    sentences = [words["use" if rivals else "only"].format(winner=winner, measure=shown, **ends)]
    sentences += _against_rivals(rivals, measure, shown, words, sure=not one_seed, grid=grid)
    sentences += _against_baselines([c for c in comparisons if _meets_baseline(c)], measure, words)
    sentences += _below_baseline(rows, winner, measure, words)
    sentences += _power([c for c in rivals if not c.decided], measure, words, unit)
    if ranks is not None:
        sentences.append(_ranks(ranks, words))
    if one_seed:
        sentences.append(words["one_seed"])
    return ("" if lang == "ja" else " ").join(sentences)


def _meets_baseline(comparison: Comparison) -> bool:
    return comparison.better in BASELINES or comparison.worse in BASELINES


def _against_rivals(
    rivals: list[Comparison], measure: str, shown: str, words: dict[str, str], *, sure: bool, grid: bool
) -> list[str]:
    beaten = [c for c in rivals if c.decided]
    tied = [c.worse for c in rivals if not c.decided]
    if not beaten:
        return [words["tied"].format(names=_listed(tied, words))] if tied else []
    difference, low, high = gap(measure, beaten[0])
    japanese = words is _SENTENCES["ja"]
    said = words["beats"].format(
        worse=beaten[0].worse,
        difference=difference,
        low=low,
        high=high,
        points=words["points"] if is_share(measure) else words["of"],
        measure=shown,
        won=beaten[0].seeds_won,
        total=beaten[0].seeds,
        trainings=words["trainings" if grid else "seeds"],
        counter="回" if grid else "個",
    )
    if tied:
        said += words["tied_too"].format(names=_listed(tied, words))
    elif not japanese:
        said += "."
    sentences = [said]
    if not tied and sure:
        sentences.append(words["sure"])
    elif len(beaten) > 1:
        sentences.append(words["also"].format(names=_listed([c.worse for c in beaten[1:]], words)))
    return sentences


def _against_baselines(comparisons: list[Comparison], measure: str, words: dict[str, str]) -> list[str]:
    sentences = []
    for c in comparisons:
        ahead = c.better in BASELINES
        if ahead and c.decided:
            sentences.append(
                words["raw_wins"].format(worse=c.better, difference=_gap_words(c, measure, words))
            )
        elif not c.decided:
            sentences.append(words["raw_tied"].format(names=c.better if ahead else c.worse))
    return sentences


def _below_baseline(rows: Sequence[Row], winner: str, measure: str, words: dict[str, str]) -> list[str]:
    """Which methods are surely worse than no training, if the winner is not: not learned yet, or collapsed."""
    baseline = next((row for row in rows if row.method in BASELINES), None)
    if baseline is None:
        return []
    sign = 1 if higher_is_better(measure) else -1
    raw = baseline.measures[measure]
    nearest = min(sign * raw.low, sign * raw.high)
    ends = {row.method: row.measures[measure] for row in rows}
    names = [name for name, found in ends.items() if max(sign * found.low, sign * found.high) < nearest]
    if not names or winner in names or winner in BASELINES:
        return []
    return [words["unlearned"].format(raw=baseline.method, names=_listed(names, words))]


def _power(
    tied: list[Comparison], measure: str, words: dict[str, str], unit: Literal["query", "class"]
) -> list[str]:
    """What would decide the nearest rival that these data cannot tell apart."""
    nearest = next((c for c in tied if c.power is not None), None)
    if nearest is None or nearest.power is None:
        return []
    fields = {"difference": _gap_words(nearest, measure, words), "other": nearest.worse}
    ways = _ways(nearest.power, words, unit)
    if not ways:
        return [words["power_none"].format(**fields, seeds=Power.MOST_SEEDS, factor=Power.MOST_TIMES)]
    return [words["power"].format(**fields, what=words["or"].join(ways))]


def _ways(power: Power, words: dict[str, str], unit: Literal["query", "class"]) -> list[str]:
    ways = []
    if power.seeds is not None:
        ways.append(words["power_seeds"].format(seeds=power.seeds))
    if power.factor is not None:
        factor = f"{power.factor:.1f}" if power.factor < 10 else f"{power.factor:.0f}"
        ways.append(words[f"power_{unit}"].format(factor=factor))
    return ways


def _gap_words(found: Comparison, measure: str, words: dict[str, str]) -> str:
    """A difference with its unit: never 0.0 for one that is not zero."""
    digits = 1
    while digits < 6 and found.difference > 0 and float(amount(measure, found.difference, digits)) == 0:
        digits += 1
    said = amount(measure, found.difference, digits)
    if not is_share(measure):
        return said
    return f"{said} points" if words is _SENTENCES["en"] else f"{said} ポイント"


def _ranks(ranks: Ranks, words: dict[str, str]) -> str:
    listed = words["comma"].join(
        f"{name} {rank:.1f}" for name, rank in zip(ranks.methods, ranks.average, strict=True)
    )
    p = "< 0.001" if ranks.friedman < 0.001 else f"= {ranks.friedman:.3f}"
    return words["ranks"].format(
        datasets=ranks.datasets,
        ranks=listed,
        friedman="" if math.isnan(ranks.friedman) else words["friedman"].format(p=p),
        critical=f"{ranks.critical:.1f}",
    )


def _listed(names: list[str], words: dict[str, str]) -> str:
    if len(names) == 1:
        return names[0]
    return words["comma"].join(names[:-1]) + words["and"] + names[-1]


def leaderboard(rows: Sequence[Row], measure: str) -> str:
    """Return a text table: one line a method, the measure with its interval, and what it cost."""
    header = ["method", measure, "seconds", "parameters"]
    memory = any(row.memory_bytes is not None for row in rows)
    trials = any(row.trials for row in rows)
    header += ["memory"] * memory + ["trials"] * trials
    lines = [header]
    for row in rows:
        found = row.measures[measure]
        value, low, high = (amount(measure, end) for end in (found.value, found.low, found.high))
        lines.append([row.method, f"{value} ({low}–{high})", f"{row.seconds:.1f}", f"{row.parameters:,}"])
        lines[-1] += [memory_text(row.memory_bytes)] * memory + [str(row.trials)] * trials
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
