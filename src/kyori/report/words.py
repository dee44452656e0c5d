"""The text of the reports, in English and Japanese.

Each entry holds both languages side by side, so that none can be forgotten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import ArgumentError, nearest_name
from .picture_words import PICTURES

__all__ = ["LANGUAGES", "TEXTS", "Words"]

LANGUAGES = ("en", "ja")

#: key: (English, Japanese). Fields in braces are filled in by :class:`Words`.
TEXTS: dict[str, tuple[str, str]] = {
    **PICTURES,
    # The frame of the page
    "title.run": ("{method} on {data}", "{data}：{method} の学習結果"),
    "kicker.compare": ("Kyori 距離 · comparison of methods on {data}", "Kyori 距離 ・ {data} での手法の比較"),
    "kicker.run": ("Kyori 距離 · training report", "Kyori 距離 ・ 学習レポート"),
    "contents": ("Contents", "目次"),
    "footer": (
        "Written by Kyori {version}. This page is one file; it loads nothing from the network.",
        "Kyori {version} で作成しました。このページは 1 つのファイルで完結しており、ネットワークには接続しません。",
    ),
    "run.lead": (
        "{measure} {value} ({interval}) on items it has not seen in training.",
        "学習に使っていないデータでの {measure} は {value}（{interval}）です。",
    ),
    # Facts
    "fact.data": ("Data", "データ"),
    "fact.items": ("Test items", "テスト件数"),
    "fact.classes": ("Classes", "クラス数"),
    "fact.methods": ("Methods", "手法"),
    "fact.seeds": ("Seeds each", "シード数"),
    "fact.folds": ("Folds", "分割数"),
    "fact.datasets": ("Data sets", "データセット数"),
    "fact.seed": ("Seed", "シード"),
    "fact.seconds": ("Training time", "学習時間"),
    "fact.total_seconds": ("Training, all runs", "学習時間の合計"),
    "fact.parameters": ("Parameters", "パラメータ数"),
    "fact.dimensions": ("Dimensions", "次元数"),
    "fact.machine": ("Machine", "計算機"),
    "fact.cores": ("{count} CPU cores", "CPU {count} コア"),
    # The budget
    "budget.epochs": ("Epochs", "エポック数"),
    "budget.steps": ("Steps", "ステップ数"),
    "budget.items": ("Training items", "学習に使った件数"),
    "budget.items_seen": ("Items seen", "学習で見た延べ件数"),
    "budget.train_items": ("Training items", "学習データの件数"),
    "budget.validation_items": ("Validation items", "検証データの件数"),
    "budget.test_items": ("Test items", "テストデータの件数"),
    "budget.backbone": ("Backbone", "バックボーン"),
    "budget.batch_size": ("Batch size", "バッチサイズ"),
    "budget.batch": ("Batch", "バッチ"),
    "budget.embedding_size": ("Embedding size", "埋め込みの次元数"),
    "budget.optimizer": ("Optimizer", "最適化手法"),
    "budget.lr": ("Learning rate", "学習率"),
    "budget.question": ("Question", "問い"),
    "budget.seen_by_method": ("Items seen by method", "手法ごとの延べ件数"),
    "budget.trials": ("Search trials", "探索の試行回数"),
    "budget.augmentation": ("Augmentation", "データ拡張"),
    "budget.folds": ("Folds", "分割数"),
    "budget.datasets": ("Data sets", "データセット"),
    "value.so_many_items": ("{n} items", "{n} 件"),
    "value.all training items, no epochs": (
        "all training items, no epochs",
        "学習データの全件（エポックなし）",
    ),
    "value.nothing": ("nothing", "なし"),
    "value.seen classes": ("seen classes", "学習したクラス"),
    "value.unseen classes": ("unseen classes", "学習していないクラス"),
    "value.none": ("none", "なし"),
    "value.None": ("that of the backbone", "バックボーンの次元数のまま"),
    "budget.split": ("Split", "データの分け方"),
    "budget.seeds": ("Seeds", "シード数"),
    "budget.seconds": ("Seconds", "秒数"),
    "budget.kept": ("Kept", "採用した重み"),
    "value.best epoch": ("best epoch on the validation items", "検証データで最良のエポック"),
    "value.last epoch": ("last epoch", "最後のエポック"),
    "budget.device": ("Device", "計算デバイス"),
    # Leaderboard
    "board.heading": ("Leaderboard", "順位表"),
    "board.note": (
        "Means over seeds on the test items, in percent, ranked by {measure}. The whisker is its 95 % interval, over "
        "seeds and queries.",
        "テストデータでの値をシードについて平均し、{measure} の高い順に並べました（単位は %）。横線は 95 % 区間で、"
        "シードと問い合わせの両方のばらつきを含みます。",
    ),
    "board.caption": ("Methods, the best first", "手法の一覧（良い順）"),
    "board.method": ("Method", "手法"),
    "board.interval": ("95 % interval", "95 % 区間"),
    "board.against": ("Against the best", "1 位との差"),
    "board.best": ("best", "1 位"),
    "board.tied": ("cannot be told apart", "差があるとは言えません"),
    "board.behind": ("{difference} behind ({low}–{high})", "{difference} 低い（{low}–{high}）"),
    "board.ahead": ("{difference} ahead ({low}–{high})", "{difference} 高い（{low}–{high}）"),
    "board.untrained": ("not trained", "学習なし"),
    "board.seconds": ("Training", "学習時間"),
    "board.parameters": ("Parameters", "パラメータ数"),
    "board.memory": ("Peak memory", "最大メモリ"),
    "board.trials": ("Trials", "探索回数"),
    "board.missing": ("Missing: {cell}", "欠けている結果：{cell}"),
    "board.leak.items": (
        "Of {of} test items of {data}, {found} are copies of training or validation items ({named}), so that memory "
        "alone answers them. The command kyori duplicates finds near copies too.",
        "{data} のテストデータ {of} 件のうち {found} 件は学習データか検証データの複製で（{named}）、覚えているだけで"
        "答えられます。ほぼ同じものは kyori duplicates で探せます。",
    ),
    "board.leak.classes": (
        "Of {of} test classes of {data}, {found} are in the training too ({named}); the others are unseen.",
        "{data} のテストのクラス {of} 個のうち {found} 個は学習データにもあります（{named}）。残りは学習していない"
        "クラスです。",
    ),
    "board.first": (
        "The pictures below are of {place}; the table is of all.",
        "以下の図は {place} のものです。表はすべての結果をまとめています。",
    ),
    "board.fold": ("fold {fold}", "分割 {fold}"),
    "ranks.heading": ("Over the data sets", "データセットごとの結果"),
    "ranks.note": (
        "Each data set is one observation. Methods under one bar cannot be told apart: their average ranks differ by "
        "less than the critical difference CD (Nemenyi's test, 5 %).",
        "データセット 1 つを 1 回の観測とします。同じ横線でつながれた手法は、平均順位の差が臨界差 CD より小さく、"
        "差があるとは言えません（ネメニィ検定、5 %）。",
    ),
    "ranks.caption": ("{measure} by data set", "データセットごとの {measure}"),
    "ranks.dataset": ("Data set", "データセット"),
    "ranks.average": ("Average rank", "平均順位"),
    "ranks.label": ("Average ranks of the methods", "手法の平均順位"),
    "board.interval.label": ("{value}, interval {low} to {high}", "{value}、区間 {low} から {high}"),
    "board.all": ("All measures with their 95 % intervals", "すべての指標と 95 % 区間"),
    "method.raw": ("raw input", "元の入力"),
    # Measures of a run
    "measures.heading": ("Measures", "評価指標"),
    "measures.note": (
        "On the test items, in percent, with 95 % bootstrap intervals.",
        "テストデータでの値です（単位は %、区間はブートストラップによる 95 % 区間）。",
    ),
    "measures.measure": ("Measure", "指標"),
    "measures.value": ("Value", "値"),
    "measures.n": ("Counted over", "集計対象の数"),
    # Training curves
    "curves.heading": ("Training", "学習の経過"),
    "curves.note": (
        "One thin line a seed. Still rising at the right edge: more epochs may pay. Falling again: it overfits.",
        "細い線 1 本が 1 つのシードです。右端でまだ上がっていれば、エポックを増やす価値があります。"
        "途中から下がっていれば過学習です。",
    ),
    "curves.note.one": (
        "Still rising at the right edge: more epochs may pay. Falling again: it overfits.",
        "右端でまだ上がっていれば、エポックを増やす価値があります。途中から下がっていれば過学習です。",
    ),
    "curves.validation": (
        "{measure} on the validation items, by epoch; the other methods in grey behind.",
        "検証データでの {measure} のエポックごとの推移です（灰色の線はほかの手法）。",
    ),
    "curves.validation.one": (
        "{measure} on the validation items, by epoch",
        "検証データでの {measure}（エポックごと）",
    ),
    "curves.loss": (
        "Training loss, by epoch. Every loss has its own scale: compare the shapes, not the heights.",
        "学習時の損失のエポックごとの推移です。目盛りは損失ごとに異なるので、高さではなく形を比べてください。",
    ),
    "curves.loss.one": ("Training loss, by epoch", "学習時の損失（エポックごと）"),
    "curves.no_validation": ("Nothing was validated during training.", "学習中の検証は行っていません。"),
    "curves.validation.alt": (
        "{method}: {measure} on the validation items by epoch, {last} at the end",
        "{method}：検証データでの {measure} の推移。最終値は {last}",
    ),
    "curves.loss.alt": ("{method}: training loss by epoch", "{method}：学習時の損失の推移"),
    # Map
    "map.heading": ("What the vectors look like", "ベクトルの配置"),
    "map.note.tsne": (
        "t-SNE pictures of the test items, seed {seed}. Islands of one colour are classes that can be told apart; "
        "sizes of islands and distances between them mean nothing.",
        "テストデータを t-SNE で平面に並べたものです（シード {seed}）。同じ色がひとまとまりになっていれば、"
        "そのクラスは見分けられています。島の大きさや島どうしの距離に意味はありません。",
    ),
    "map.note.pca": (
        "Pictures of the test items by their two principal components, seed {seed}.",
        "テストデータを主成分分析で平面に並べたものです（シード {seed}）。",
    ),
    "map.sampled": (
        "{shown} of {total} items are drawn, sampled at random.",
        "{total} 件から無作為に選んだ {shown} 件を描いています。",
    ),
    "map.others": ("{count} other classes", "その他の {count} クラス"),
    "map.alt": (
        "{method}: {shown} test items on a plane, coloured by class",
        "{method}：テストデータ {shown} 件の平面図（色はクラス）",
    ),
    "map.caption": ("{measure} {value}", "{measure} {value}"),
    # Verification
    "roc.heading": ("Same or different?", "同じか、違うか"),
    "roc.note": (
        "Call two items the same when their distance is below a threshold. The curves show how many true pairs are "
        "accepted for a given share of false pairs let through, averaged over seeds. Higher and further left is "
        "better.",
        "距離がしきい値より小さい 2 件を「同じ」と判定するとき、誤って受け入れる割合に対して、正しいペアをどれだけ"
        "受け入れられるかを示します（シードの平均）。曲線が左上にあるほど良い手法です。",
    ),
    "roc.y": ("pairs of one class accepted (TAR)", "同じクラスのペアを受け入れた割合（TAR）"),
    "roc.x": (
        "pairs of different classes accepted (FAR, logarithmic)",
        "違うクラスのペアを受け入れた割合（FAR、対数目盛）",
    ),
    "roc.alt": ("ROC curves of all methods", "全手法の ROC 曲線"),
    "histogram.note": (
        "Distances of pairs of test items, seed {seed}: small to the left, large to the right. The less the two hills "
        "overlap, the better a threshold works. The dashed line is the threshold with equal error rates.",
        "テストデータのペアの距離の分布です（シード {seed}、右ほど遠い）。2 つの山が重ならないほど、"
        "しきい値でうまく判定できます。破線は 2 種類の誤り率が等しくなるしきい値です。",
    ),
    "histogram.same": ("same class", "同じクラス"),
    "histogram.different": ("different classes", "違うクラス"),
    "histogram.caption": (
        "threshold {threshold}, equal error rate {eer}",
        "しきい値 {threshold}、等誤り率 {eer}",
    ),
    "histogram.alt": (
        "{method}: distances of same-class and different-class pairs",
        "{method}：同じクラスのペアと違うクラスのペアの距離の分布",
    ),
    # Pairs
    "pairs.heading": ("Pairs, and what {method} says of them", "{method} によるペアの判定"),
    "pairs.note": (
        "Below each pair its distance, seed {seed}; up to {threshold} it is called the same.",
        "ペアの下の数字は距離です（シード {seed}）。{threshold} 以下なら「同じ」と判定します。",
    ),
    "pairs.note.no_threshold": (
        "Below each pair its distance, seed {seed}.",
        "ペアの下の数字は距離です（シード {seed}）。",
    ),
    "pairs.first_same": ("First pairs of one class", "同じクラスのペア（先頭から順に）"),
    "pairs.first_different": ("First pairs of different classes", "違うクラスのペア（先頭から順に）"),
    "pairs.apart": ("Most confused: one class, yet far apart", "特に間違えやすい：同じクラスなのに遠いペア"),
    "pairs.close": (
        "Most confused: different classes, yet close",
        "特に間違えやすい：違うクラスなのに近いペア",
    ),
    "pairs.says_same": ("same", "同じ"),
    "pairs.says_different": ("different", "違う"),
    "pairs.none": (
        "There is no such pair among the test items.",
        "テストデータにそのようなペアはありません。",
    ),
    "item.alt": ("item {id}, class {name}", "{id}（クラス {name}）"),
    "item.alt.unlabelled": ("item {id}", "{id}"),
    # Queries
    "queries.heading": ("Where the search fails", "検索がうまくいかない例"),
    "queries.note": (
        "The test items with the lowest {measure} under {method}, seed {seed}, and their nearest neighbours, nearest "
        "first. ✓ has the class of the query, ✗ has not; below is the distance.",
        "{method} で {measure} が最も低いテストデータと、その最近傍を近い順に並べました（シード {seed}）。"
        "✓ は問い合わせと同じクラス、✗ は違うクラスで、数字は距離です。",
    ),
    "queries.none": (
        "Every query was answered without a mistake.",
        "すべての問い合わせに誤りなく答えました。",
    ),
    "queries.too_few": (
        "There are too few test items to search in.",
        "検索するにはテストデータが足りません。",
    ),
    "queries.query": ("query", "問い合わせ"),
    "queries.title": ("Lowest {measure}", "{measure} が低い順"),
    "queries.hit": ("hit", "正解"),
    "queries.miss": ("miss", "不正解"),
    # Reading
    "reading.heading": ("How to read this page", "このページの読み方"),
    "reading.intervals": (
        "Intervals are 95 % intervals: repeat the whole comparison with other queries and other seeds, and the mean "
        "should fall inside about 19 times in 20. Methods are compared query by query; two of them “cannot be told "
        "apart” when the interval of their difference contains zero or its corrected p-value is 0.05 or more.",
        "区間はすべて 95 % 区間です。問い合わせとシードを変えて比較全体を繰り返すと、20 回に 19 回ほどは"
        "平均がこの範囲に入ると考えられます。手法どうしは問い合わせごとに比べ、差の区間が 0 を含むか、"
        "補正した p 値が 0.05 以上のときに"
        "「差があるとは言えません」と表示します。",
    ),
    "reading.intervals.run": (
        "Intervals are 95 % bootstrap intervals over the test queries. They do not hold the luck of training: for "
        "that, train with several seeds.",
        "区間はテストの問い合わせについてのブートストラップ 95 % 区間です。学習ごとのばらつきは含まれないので、"
        "確かめるには複数のシードで学習してください。",
    ),
    "next.heading": ("Put {method} to work", "{method} を使うには"),
    "next.note": (
        "Look at its vectors in the browser, search its items, or train it for longer on the same split; the model is "
        "that of seed {seed}.",
        "ベクトルをブラウザで眺める、データを検索できるようにする、同じ分割のままもっと長く学習する、の順です"
        "（モデルはシード {seed} のもの）。",
    ),
    "reproduce.heading": ("Do it again", "再現するには"),
    "reproduce.note": (
        "The same command with the same seeds on the same machine gives the same numbers.",
        "同じコマンドを同じシード、同じ計算機で実行すれば、同じ数値になります。",
    ),
    "reproduce.provenance": ("Made with", "実行環境"),
    "provenance.training": ("Training", "学習"),
    "provenance.system": ("System", "システム"),
    "provenance.kyori": ("Kyori", "Kyori"),
    "provenance.metric": ("Distance", "距離"),
    "provenance.seed": ("Seed of the resampling", "リサンプリングのシード"),
    "provenance.bootstrap": ("Bootstrap samples", "ブートストラップの回数"),
    "provenance.unit": ("Resampled unit", "リサンプリングの単位"),
    "provenance.n": ("Queries", "問い合わせの数"),
    "provenance.gallery": ("Gallery items", "検索対象の件数"),
    "provenance.dimensions": ("Dimensions", "次元数"),
    "provenance.classes": ("Classes", "クラス数"),
    # Time spans
    "time.seconds": ("{seconds:.1f} s", "{seconds:.1f} 秒"),
    "time.minutes": ("{minutes} min {seconds} s", "{minutes} 分 {seconds} 秒"),
    "time.hours": ("{hours} h {minutes} min", "{hours} 時間 {minutes} 分"),
    # Measures: what they mean
    "explain.recall@": (
        "Share of queries with an item of their own class at rank {k} or better.",
        "近い順に {k} 件目までに、同じクラスのものが見つかった問い合わせの割合です。",
    ),
    "explain.precision@": (
        "Share of the {k} nearest items that have the query's class.",
        "最も近い {k} 件のうち、問い合わせと同じクラスのものの割合です。",
    ),
    "explain.r-precision": (
        "Of the R nearest items, where R is the size of the query's class, the share that has its class.",
        "問い合わせと同じクラスが R 件あるとき、最も近い R 件のうち同じクラスのものの割合です。",
    ),
    "explain.map@r": (
        "Like R-Precision, but what stands first counts most: 100 only if the whole class comes before anything else.",
        "R-Precision と同じく上位 R 件を見ますが、上位にあるものほど重く数えます。同じクラスがすべて先に並んだときだけ "
        "100 になります。",
    ),
    "explain.map": (
        "Mean average precision over the full ranking of all items.",
        "全件を近い順に並べたときの平均適合率を、問い合わせについて平均した値です。",
    ),
    "explain.map@": (
        "Average precision over the {k} nearest items.",
        "最も近い {k} 件で計算した平均適合率です。",
    ),
    "explain.ndcg@": (
        "Gain of the first {k} places, discounted by rank, relative to the best possible order.",
        "上位 {k} 件を順位で割り引いて数え、理想の並びに対する比で表した値です。",
    ),
    "explain.mrr": (
        "Mean of 1 / rank of the first item of the query's class.",
        "同じクラスが最初に現れた順位の逆数を平均した値です。",
    ),
    "explain.mrr@": (
        "Mean of 1 / rank of the first item of the query's class, 0 where it is not among the {k} nearest.",
        "同じクラスが最初に現れた順位の逆数を平均した値です。上位 {k} 件になければ 0 とします。",
    ),
    "explain.auc": (
        "Chance that a pair of one class lies closer than a pair of different classes.",
        "同じクラスのペアが、違うクラスのペアより近い確率です。",
    ),
    "explain.eer": (
        "Error rate at the threshold where true pairs are refused as often as false pairs are accepted. "
        "Lower is better.",
        "正しいペアを退ける割合と、誤ったペアを受け入れる割合が等しくなるしきい値での誤り率です。小さいほど良い値です。",
    ),
    "explain.tar@far=": (
        "Share of true pairs accepted when {k} of the false pairs are let through.",
        "違うクラスのペアを {k} だけ通すしきい値で、同じクラスのペアを受け入れる割合です。",
    ),
    "explain.accuracy": (
        "Share of pairs judged correctly at the threshold.",
        "しきい値で正しく判定できたペアの割合です。",
    ),
    "explain.best-accuracy": (
        "Share of pairs judged correctly at the best of all thresholds, chosen on the same pairs.",
        "同じペアで最も良くなるように選んだしきい値で、正しく判定できたペアの割合です。",
    ),
    "explain.distance-ratio": (
        "Mean distance within classes over mean distance between them. Lower is better.",
        "クラス内の平均距離を、クラス間の平均距離で割った値です。小さいほど良い値です。",
    ),
    "explain.alignment": (
        "Mean squared distance within classes on the unit sphere. Lower is better.",
        "単位球面上での、クラス内の平均二乗距離です。小さいほど良い値です。",
    ),
    "explain.uniformity": (
        "How evenly the vectors cover the unit sphere (Wang & Isola 2020). Lower is more even.",
        "ベクトルが単位球面にどれだけ均等に広がっているかを表します（Wang & Isola 2020）。小さいほど均等です。",
    ),
    "explain.nmi": (
        "How well clusters found without labels agree with the classes (normalised mutual information).",
        "ラベルを使わずに求めたクラスタと、実際のクラスとの一致度です（正規化相互情報量）。",
    ),
    "explain.ami": (
        "NMI with the agreement of chance taken off.",
        "偶然の一致を差し引いた NMI です。",
    ),
    "explain.ari": (
        "Agreement of clusters and classes counted over pairs, with chance taken off (adjusted Rand index).",
        "クラスタとクラスの一致度をペアで数え、偶然の分を差し引いた値です（調整ランド指数）。",
    ),
    "explain.silhouette": (
        "How much closer items are to their own class than to the next one, from −100 to 100.",
        "自分のクラスが隣のクラスよりどれだけ近いかを −100 から 100 で表した値です。",
    ),
}

_NAMES = {
    "recall@": "Recall@{k}",
    "precision@": "Precision@{k}",
    "r-precision": "R-Precision",
    "map@r": "MAP@R",
    "map": "mAP",
    "map@": "MAP@{k}",
    "ndcg@": "nDCG@{k}",
    "mrr": "MRR",
    "mrr@": "MRR@{k}",
    "auc": "ROC AUC",
    "eer": "EER",
    "tar@far=": "TAR@FAR {k}",
    "accuracy": "Pair accuracy",
    "best-accuracy": "Best pair accuracy",
    "distance-ratio": "Distance ratio",
    "alignment": "Alignment",
    "uniformity": "Uniformity",
    "nmi": "NMI",
    "ami": "AMI",
    "ari": "ARI",
    "silhouette": "Silhouette",
}


@dataclass(frozen=True)
class Words:
    """The words of one language.

    >>> Words("ja")("board.method")
    '手法'
    >>> Words().measure("tar@far=0.001")
    'TAR@FAR 0.1%'
    """

    lang: str = "en"

    def __post_init__(self) -> None:
        if self.lang not in LANGUAGES:
            raise ArgumentError(
                f"lang must be 'en' or 'ja'; got '{self.lang}'{nearest_name(self.lang, LANGUAGES)}"
            )

    def __call__(self, key: str, **fields: object) -> str:
        """Return a text with its fields filled in; an unknown key is a KeyError."""
        return TEXTS[key][LANGUAGES.index(self.lang)].format(**fields)

    def sentences(self, *sentences: str) -> str:
        """Return sentences one after the other, with a space between them where the language has one.

        >>> Words("ja").sentences("一。", "二。"), Words().sentences("One.", "Two.")
        ('一。二。', 'One. Two.')
        """
        return ("" if self.lang == "ja" else " ").join(sentences)

    def raw(self, key: str) -> str:
        """Return a text with its fields in braces, for the page's script to fill in."""
        return TEXTS[key][LANGUAGES.index(self.lang)]

    def or_else(self, key: str, fallback: str) -> str:
        """Return a text without fields, or ``fallback`` where no such text exists (names that users bring)."""
        return self(key) if key in TEXTS else fallback

    def method(self, name: str) -> str:
        """Return the name of a method as it is shown."""
        return self.or_else(f"method.{name}", name)

    def measure(self, name: str) -> str:
        """Return the name of a measure as it is written in papers; unknown ones stay as they are."""
        family, k = _family(name)
        return _NAMES[family].format(k=k) if family in _NAMES else name

    def duration(self, seconds: float) -> str:
        """Return a time span.

        >>> [Words().duration(span) for span in (0.4, 75.2, 7380)]
        ['0.4 s', '1 min 15 s', '2 h 3 min']
        """
        if seconds < 59.95:
            return self("time.seconds", seconds=seconds)
        minutes, rest = divmod(round(seconds), 60)
        if minutes < 60:
            return self("time.minutes", minutes=minutes, seconds=rest)
        return self("time.hours", hours=minutes // 60, minutes=minutes % 60)

    def explain(self, name: str) -> str:
        """Return what a measure means, or an empty text for an unknown one."""
        family, k = _family(name)
        key = f"explain.{family}"
        return self(key, k=k) if key in TEXTS else ""


def _family(name: str) -> tuple[str, str]:
    """Part a measure's name into its family and its number, false accept rates in percent.

    >>> _family("recall@10"), _family("tar@far=1e-3"), _family("map@r")
    (('recall@', '10'), ('tar@far=', '0.1%'), ('map@r', ''))
    """
    if name in _NAMES:
        return name, ""
    found = re.fullmatch(r"(tar@far=|[a-z-]+@)([\d.e+-]+)", name)
    if found is None or found[1] not in _NAMES:
        return ("accuracy", "") if "accuracy" in name else (name, "")
    number = f"{100 * float(found[2]):g}%" if found[1] == "tar@far=" else found[2]
    return found[1], number
