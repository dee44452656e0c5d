"""A board in words: the recommendation with how sure it is, and the leaderboard as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ArgumentError, nearest_name
from ..report import Words

if TYPE_CHECKING:
    from .board import Board, Comparison

__all__ = ["leaderboard", "recommend"]

_SENTENCES = {
    "en": {
        "only": "{winner} is the only method that was trained: {measure} {value:.1f} ({low:.1f}–{high:.1f}).",
        "use": "Use {winner}: {measure} {value:.1f} ({low:.1f}–{high:.1f}).",
        "beats": "It beats {worse} by {difference:.1f} points ({low:.1f}–{high:.1f}), "
        "{seeds_won} of {seeds} seeds.",
        "tied": "It cannot be told apart from {names} with these data and seeds.",
        "sure": "No other method comes within reach of chance.",
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


def recommend(board: Board, lang: str = "en") -> str:
    """Say which method to use and how sure that is.

    The winner has the highest mean. A method counts as beaten when the 95 % interval of the paired difference lies
    above zero and the corrected p-value is below 0.05; every other one is named as "cannot be told apart".
    """
    if lang not in _SENTENCES:
        raise ArgumentError(f"lang must be 'en' or 'ja'; got '{lang}'{nearest_name(lang, _SENTENCES)}")
    from .board import BASELINES

    words = _SENTENCES[lang]
    winner = next(row for row in board.rows() if row.method == board.winner)
    best = winner.measures[board.measure]
    found = board.comparisons()
    rivals = [c for c in found if c.better == board.winner and c.worse not in BASELINES]
    baselines = [c for c in found if c.better in BASELINES or c.worse in BASELINES]
    fields = {
        "winner": board.winner,
        "measure": Words(lang).measure(board.measure),
        "value": 100 * best.value,
        "low": 100 * best.low,
        "high": 100 * best.high,
    }
    sentences = [words["use" if rivals else "only"].format(**fields)]
    sentences += _against_rivals(rivals, words)
    sentences += _against_baselines(baselines, words)
    if max(len(board.of(method)) for method in board.methods) == 1:
        sentences.append(words["one_seed"])
    return ("" if lang == "ja" else " ").join(sentences)


def _against_rivals(rivals: list[Comparison], words: dict[str, str]) -> list[str]:
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
    elif beaten:
        sentences.append(words["sure"])
    return sentences


def _against_baselines(baselines: list[Comparison], words: dict[str, str]) -> list[str]:
    sentences = []
    for c in baselines:
        if c.decided and c.better != c.worse and c.worse not in ("raw",):
            sentences.append(words["raw_wins"].format(worse=c.better, difference=100 * c.difference))
        elif not c.decided:
            name = c.worse if c.worse == "raw" else c.better
            sentences.append(words["raw_tied"].format(names=name))
    return sentences


def _listed(names: list[str], words: dict[str, str]) -> str:
    if len(names) == 1:
        return names[0]
    return words["comma"].join(names[:-1]) + words["and"] + names[-1]


def leaderboard(board: Board, measures: tuple[str, ...] = ()) -> str:
    """Return the board as a text table: one line a method, values in percent with their intervals."""
    rows = board.rows()
    shown = [m for m in (board.measure, *measures) if m in rows[0].measures]
    shown = list(dict.fromkeys(shown))
    header = ["method", *shown, "seconds", "parameters"]
    lines = [header]
    for row in rows:
        cells = [_percent(row.measures[m].value, row.measures[m].low, row.measures[m].high) for m in shown]
        lines.append([row.method, *cells, f"{row.seconds:.1f}", f"{row.parameters:,}"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _percent(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} ({100 * low:.1f}–{100 * high:.1f})"
