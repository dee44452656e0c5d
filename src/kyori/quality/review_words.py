"""The text of the review page, in English and Japanese side by side."""

from __future__ import annotations

__all__ = ["TEXTS"]

#: key: (English, Japanese).
TEXTS: dict[str, tuple[str, str]] = {
    "title": (
        "{issues} of {n} labels in {data} look wrong",
        "{data}：{n} 件中 {issues} 件のラベルに誤りの疑いがあります",
    ),
    "kicker": ("Kyori 距離 · review of labels", "Kyori 距離 ・ ラベルの確認"),
    "lead": (
        "Each was judged by its neighbours and its class's centre. Decide about each label; nothing is changed in your "
        "data.",
        "近くのデータとクラスの中心から判定しました。1 件ずつ確認して処理を選んでください。"
        "元のデータは変更されません。",
    ),
    "fact.data": ("Data", "データ"),
    "fact.items": ("Items", "件数"),
    "fact.classes": ("Classes", "クラス数"),
    "fact.issues": ("Labels that look wrong", "誤りの疑い"),
    "fact.unjudged": ("Alone in their class, not judged", "クラスに 1 件だけのため判定なし"),
    "fact.judged_by": ("Judged with", "判定に使ったベクトル"),
    "judged.cross_fit": (
        "{folds} models, none of which had seen the item it judges",
        "判定するデータを学習に使っていない {folds} 個のモデル",
    ),
    "judged.own": (
        "the run's own vectors, which have seen these labels",
        "学習済みモデル自身のベクトル（これらのラベルを学習に使っています）",
    ),
    "judged.table": ("vectors as they came", "渡されたベクトル"),
    "noise.heading": ("Where the wrong labels are", "誤りの多いクラス"),
    "noise.note": (
        "Share of the labels of each class that look wrong, with Wilson's 95 % interval for the count. Where two "
        "classes overlap, right labels are counted too.",
        "各クラスのラベルのうち、誤りの疑いがあるものの割合です（Wilson の 95 % 区間）。"
        "クラスどうしが重なっている場合は、正しいラベルも数えられます。",
    ),
    "noise.class": ("Class", "クラス"),
    "noise.items": ("Labels", "ラベル数"),
    "noise.issues": ("Look wrong", "誤りの疑い"),
    "noise.rate": ("Share", "割合"),
    "noise.interval": ("95 % interval", "95 % 区間"),
    "noise.more": ("{count} more classes", "ほかの {count} クラス"),
    "items.heading": ("Decide", "確認"),
    "items.note": (
        "The most doubtful first: {shown} shown, {issues} look wrong in all. Beside each stand its nearest neighbours; "
        "green edges have the suggested label, red ones the given one.",
        "疑わしい順に {shown} 件を表示しています（疑いのあるラベルは全部で {issues} 件）。"
        "右に並ぶのは最も近いデータで、緑の線は提案されたラベル、赤の線は現在のラベルを持つものです。",
    ),
    "item.score": ("score {score}", "スコア {score}"),
    "item.alt": ("{id}, labelled {label}", "{id}（ラベル：{label}）"),
    "item.decide": ("Decision", "処理"),
    "item.new_label": ("New label", "新しいラベル"),
    "action.keep": ("keep", "そのまま"),
    "action.relabel": ("relabel:", "ラベルを変更："),
    "action.drop": ("drop", "除外"),
    "button.accept": ("Take all suggestions shown", "表示中の提案をすべて採用"),
    "button.save": ("Save corrections.csv", "corrections.csv を保存"),
    "button.open": ("Open corrections.csv", "corrections.csv を開く"),
    "status.count": ("{decided} of {all} decided", "{all} 件中 {decided} 件を確認済み"),
    "status.unknown": ("“{label}” is no class of these data", "「{label}」というクラスはありません"),
    "status.foreign": (
        "{count} decisions about items that are not on this page are kept in the file",
        "このページにない {count} 件の処理も、ファイルに残します",
    ),
    "status.unreadable": (
        "This file has no columns id and action",
        "このファイルには id と action の列がありません",
    ),
    "use.heading": ("Use the decisions", "結果の使い方"),
    "use.note": (
        "Training with the saved file takes the new labels and leaves the dropped items out.",
        "保存したファイルを指定して学習すると、新しいラベルを使い、除外したデータを省きます。",
    ),
}
