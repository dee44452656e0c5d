"""A board in words: the recommendation with how sure it is, and the leaderboard as text."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ArgumentError, nearest_name
from ..report import Words
from .methods import BASELINES
from .statistics import Comparison, Row

__all__ = ["leaderboard", "recommend"]

_SENTENCES = {
    "en": {
        "only": "{winner} is the only method that was trained: {measure} {value:.1f} ({low:.1f}–{high:.1f}).",
        "use": "Use {winner}: {measure} {value:.1f} ({low:.1f}–{high:.1f}).",
        "beats": "It beats {worse} by {difference:.1f} points ({low:.1f}–{high:.1f}), "
        "{seeds_won} of {seeds} seeds.",
        "tied": "It cannot be told apart from {names} with these data and seeds.",
        "sure": "Every other method is behind by more than chance explains.",
        "raw_wins": "But {worse} without any training is not worse: {difference:.1f} points ahead. "
        "Train longer, or with more data, before you use a learned distance.",
        "raw_tied": "That is not surely better than {names} without any training.",
        "one_seed": "One seed only: the luck of training is not in these intervals; repeat with seeds=3.",
        "and": " and ",
        "comma": ", ",
    },
    "ja": {
        "only": "学習した手法は {winner} だけです。{measure} は {value:.1f}（{low:.1f}–{high:.1f}）でした。",
        "use": "{winner} をおすすめします。{measure} は {value:.1f}（{low:.1f}–{high:.1f}）です。",
        "beats": "{worse} を {difference:.1f} ポイント（{low:.1f}–{high:.1f}）上回り、"
        "{seeds} 個のシードのうち {seeds_won} 個で勝ちました。",
        "tied": "ただし、このデータとシード数では {names} との差があるとは言えません。",
        "sure": "ほかのどの手法との差も、偶然では説明できない大きさです。",
        "raw_wins": "ただし、学習しない {worse} のほうが {difference:.1f} ポイント上でした。"
        "学習した距離を使う前に、学習回数かデータを増やしてください。",
        "raw_tied": "ただし、学習しない {names} より確かに良いとは言えません。",
        "one_seed": "シードが 1 個なので、この区間に学習ごとのばらつきは含まれません。seeds=3 で確かめてください。",
        "and": " と ",
        "comma": "、",
    },
}


def recommend(
    rows: Sequence[Row], comparisons: Sequence[Comparison], measure: str, winner: str, lang: str = "en"
) -> str:
    """Say which method to use and how sure that is.

    The winner has the highest mean. A method counts as beaten when the 95 % interval of the paired difference lies
    above zero and the corrected p-value is below 0.05; every other one is named as "cannot be told apart".

    Args:
        rows: All methods, the best first.
        comparisons: The winner against each other method.
        measure: The measure that ranks.
        winner: The method to recommend.
        lang: ``"en"`` or ``"ja"``.
    """
    if lang not in _SENTENCES:
        raise ArgumentError(f"lang must be 'en' or 'ja'; got '{lang}'{nearest_name(lang, _SENTENCES)}")
    words = _SENTENCES[lang]
    best = next(row for row in rows if row.method == winner).measures[measure]
    rivals = [c for c in comparisons if not _meets_baseline(c)]
    fields = {
        "winner": winner,
        "measure": Words(lang).measure(measure),
        "value": 100 * best.value,
        "low": 100 * best.low,
        "high": 100 * best.high,
    }
    one_seed = max(len(row.per_seed[measure]) for row in rows) == 1
    sentences = [words["use" if rivals else "only"].format(**fields)]
    sentences += _against_rivals(rivals, words, sure=not one_seed)
    sentences += _against_baselines([c for c in comparisons if _meets_baseline(c)], words)
    if one_seed:
        sentences.append(words["one_seed"])
    return ("" if lang == "ja" else " ").join(sentences)


def _meets_baseline(comparison: Comparison) -> bool:
    return comparison.better in BASELINES or comparison.worse in BASELINES


def _against_rivals(rivals: list[Comparison], words: dict[str, str], *, sure: bool) -> list[str]:
    beaten = [c for c in rivals if c.decided]
    tied = [c.worse for c in rivals if not c.decided]
    sentences = []
    if beaten:
        next_best = beaten[0]
        sentences.append(
            words["beats"].format(
                worse=next_best.worse,
                difference=100 * next_best.difference,
                low=100 * next_best.low,
                high=100 * next_best.high,
                seeds_won=next_best.seeds_won,
                seeds=next_best.seeds,
            )
        )
    if tied:
        sentences.append(words["tied"].format(names=_listed(tied, words)))
    elif beaten and sure:
        sentences.append(words["sure"])
    return sentences


def _against_baselines(comparisons: list[Comparison], words: dict[str, str]) -> list[str]:
    sentences = []
    for c in comparisons:
        ahead = c.better in BASELINES
        if ahead and c.decided:
            sentences.append(words["raw_wins"].format(worse=c.better, difference=100 * c.difference))
        elif not c.decided:
            sentences.append(words["raw_tied"].format(names=c.better if ahead else c.worse))
    return sentences


def _listed(names: list[str], words: dict[str, str]) -> str:
    if len(names) == 1:
        return names[0]
    return words["comma"].join(names[:-1]) + words["and"] + names[-1]


def leaderboard(rows: Sequence[Row], measure: str) -> str:
    """Return a text table: one line a method, the measure in percent with its interval, time and size."""
    header = ["method", measure, "seconds", "parameters"]
    lines = [header]
    for row in rows:
        found = row.measures[measure]
        interval = f"{100 * found.value:.1f} ({100 * found.low:.1f}–{100 * found.high:.1f})"
        lines.append([row.method, interval, f"{row.seconds:.1f}", f"{row.parameters:,}"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
