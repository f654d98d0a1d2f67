"""The classifiers of scikit-learn that the first TinyTags compared, each with a fair set-up, as baselines for our own."""

import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conf.errors import TinyTagsError
from tagging.comparison import figures
from tagging.features import Features
from tagging.types import Codes, Labels

# Parameters are chosen on this many of the training rows, a fifth of them for validation.
TUNING_IMAGES = 5_000
VALIDATION = 0.2


@dataclass(frozen=True)
class Classic:
    """A classifier of scikit-learn: what is done to its input, and the parameters of which the best are taken."""

    title: str
    setup: str  # in words, for people
    candidates: tuple[dict[str, Any], ...]  # tried on validation images, all of them training rows
    build: Callable[..., Any]  # from (parameters, rows, columns, seed) to an estimator


def _scaled(parameters: dict[str, Any], rows: int, columns: int, seed: int) -> list[Any]:
    """Return the steps that scale each column and keep the main components, whitened, where there are more columns."""
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    steps = _components(columns, rows, parameters["components"], True, seed)
    return [FunctionTransformer(as_floats), StandardScaler(), *steps]


def _components(columns: int, rows: int, components: int, whiten: bool, seed: int) -> list[Any]:
    from sklearn.decomposition import PCA

    kept = min(components, rows - 1)
    if columns <= kept:
        return []
    return [PCA(kept, whiten=whiten, svd_solver="randomized", random_state=seed)]


def as_floats(codes: Codes) -> npt.NDArray[np.float32]:
    """Return codes as floats; at the top level of a module, so that a pipeline can be pickled."""
    return codes.astype(np.float32)


def _linear_svm(parameters: dict[str, Any], rows: int, columns: int, seed: int) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    machine = LinearSVC(dual=False, C=parameters["C"], random_state=seed)
    return make_pipeline(*_scaled(parameters, rows, columns, seed), machine)


def _neighbours(parameters: dict[str, Any], rows: int, columns: int, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    nearest = KNeighborsClassifier(parameters["neighbours"], weights="distance", algorithm="brute")
    steps = _components(columns, rows, parameters["components"], False, seed)
    return make_pipeline(FunctionTransformer(as_floats), *steps, nearest)


def _forest(parameters: dict[str, Any], rows: int, columns: int, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(100, min_samples_leaf=parameters["leaf"], random_state=seed)


def _boosted_trees(parameters: dict[str, Any], rows: int, columns: int, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    boosted = HistGradientBoostingClassifier(
        learning_rate=parameters["rate"], max_iter=parameters["iterations"], random_state=seed, early_stopping=True,
    )  # fmt: skip
    steps = _components(columns, rows, 100, False, seed)
    return make_pipeline(FunctionTransformer(as_floats), *steps, boosted)


def _logistic_l1(parameters: dict[str, Any], rows: int, columns: int, seed: int) -> Any:
    return _logistic(parameters, rows, columns, seed, l1_ratio=1.0, solver="saga", tol=1e-3)


def _logistic_l2(parameters: dict[str, Any], rows: int, columns: int, seed: int) -> Any:
    return _logistic(parameters, rows, columns, seed, l1_ratio=0.0, solver="lbfgs")


def _logistic(parameters: dict[str, Any], rows: int, columns: int, seed: int, **more: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    regression = LogisticRegression(C=parameters["C"], max_iter=200, random_state=seed, **more)
    return make_pipeline(*_scaled(parameters, rows, columns, seed), regression)


def _adaboost(parameters: dict[str, Any], rows: int, columns: int, seed: int) -> Any:
    from sklearn.ensemble import AdaBoostClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.tree import DecisionTreeClassifier

    stump = DecisionTreeClassifier(max_depth=parameters["depth"], random_state=seed)
    boosted = AdaBoostClassifier(stump, n_estimators=200, learning_rate=0.5, random_state=seed)
    steps = _components(columns, rows, 64, False, seed)
    return make_pipeline(FunctionTransformer(as_floats), *steps, boosted)


def _penalties(*strengths: float) -> tuple[dict[str, Any], ...]:
    return tuple({"components": n, "C": c} for n in (64, 256) for c in strengths)


_WHITE = "each column scaled, whitened principal components"

# By the name that the command line takes.
CLASSICS = {
    "linear-svm": Classic(
        "linear SVM", f"{_WHITE}; one against the rest, squared hinge loss", _penalties(0.0001, 0.001, 0.01), _linear_svm
    ),
    "neighbours": Classic(
        "k nearest neighbours", "principal components; Euclidean distance, nearer ones count more",
        tuple({"neighbours": k, "components": c} for c in (16, 32, 64) for k in (5, 10)), _neighbours,
    ),
    "forest": Classic(
        "random forest", "100 trees of any depth; the square root of the columns tried a split",
        ({"leaf": 1}, {"leaf": 3}), _forest,
    ),
    "boosted-trees": Classic(
        "boosted trees", "100 principal components; by histogram, stopped early",
        ({"rate": 0.1, "iterations": 300}, {"rate": 0.2, "iterations": 150}), _boosted_trees,
    ),
    "logistic-l1": Classic("logistic regression, L1", f"{_WHITE}; softmax", _penalties(0.01, 0.1, 1.0), _logistic_l1),
    "logistic-l2": Classic("logistic regression, L2", f"{_WHITE}; softmax", _penalties(0.0001, 0.001, 0.01), _logistic_l2),
    "adaboost": Classic(
        "AdaBoost", "64 principal components; 200 trees, rate 0.5", ({"depth": 1}, {"depth": 3}), _adaboost
    ),
}  # fmt: skip


def classic_row(
    name: str,
    train: tuple[Codes, Labels],
    test: tuple[Codes, Labels],
    classes: list[str],
    seed: int,
    features: Features | None = None,
) -> dict[str, Any]:
    """Choose parameters, fit and measure a classifier of `CLASSICS`; return its row, as `tagging.comparison` compares them.

    ``train`` has features and labels, ``test`` the images, whose ``features`` are computed here (None: they are pixels). The
    parameters are those with the best accuracy on validation images, which are part of ``train``; ``test`` only measures
    the result. All times are of the processor, on one core; the rate includes the features.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    classic = CLASSICS[name]
    # Mirrored images come last: beside an image that a classifier is fitted on, its mirror image validates nothing.
    once = len(train[0]) // (2 if features is not None and features.mirrored else 1)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the iterations are part of the set-up
        began = time.process_time()
        parameters, tried = choose_parameters(classic, train[0][:once], train[1][:once], seed)
        chosen = time.process_time()
        estimator = classic.build(parameters, *train[0].shape, seed).fit(*train)
        fitted = time.process_time()
        codes = test[0] if features is None else features.codes(test[0])
        votes = probabilities(estimator, codes, len(classes))
        done = time.process_time()
    return {
        "name": name,
        "kind": "scikit-learn",
        "engine": "scikit-learn",
        "title": classic.title,
        "setup": classic.setup,
        "features": "pixels" if features is None else features.name,
        "trained_images": once,
        "parameters": parameters | {"seed": seed},
        "validation": tried,
        **figures(votes, test[1], None),
        # Distances are no confidence: only their order counts.
        **({} if hasattr(estimator, "predict_proba") else {"at_confidence": None}),
        "fit_seconds": None,
        "fit_processor_seconds": round(fitted - chosen, 2),
        "choose_processor_seconds": round(chosen - began, 2),
        "images_per_processor_second": round(len(test[0]) / max(done - fitted, 1e-9), 1),
        "bytes": len(pickle.dumps(estimator)),
    }


def choose_parameters(
    classic: Classic, codes: Codes, labels: Labels, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the parameters with the best accuracy on validation images (the first of equals), and all that were tried."""
    if len(classic.candidates) == 1:
        return classic.candidates[0], []
    rows = np.random.default_rng(seed).permutation(len(codes))[:TUNING_IMAGES]
    validation, fitted = np.split(rows, [round(len(rows) * VALIDATION)])
    if not len(validation) or len(np.unique(labels[fitted])) < 2:
        raise TinyTagsError(
            f"{len(codes):,} training images, of {len(np.unique(labels)):,} classes, are too few to choose parameters; "
            "give at least 10 images, of two classes or more"
        )
    tried = []
    for parameters in classic.candidates:
        estimator = classic.build(parameters, len(fitted), codes.shape[1], seed)
        estimator.fit(codes[fitted], labels[fitted])
        right = estimator.predict(codes[validation]) == labels[validation]
        tried.append({**parameters, "accuracy": round(float(right.mean()), 6)})
    best = max(range(len(tried)), key=lambda n: tried[n]["accuracy"])
    return classic.candidates[best], tried


def probabilities(estimator: Any, codes: Codes, classes: int) -> npt.NDArray[np.float32]:
    """Return (n, classes) float32: what an estimator says of ``codes``, 0 for classes that it was not trained on.

    The distances of a linear SVM become numbers from 0 to 1 by softmax, which keeps their order but is no probability.
    """
    if hasattr(estimator, "predict_proba"):
        known = estimator.predict_proba(codes)
    else:
        known = estimator.decision_function(codes)
        if known.ndim == 1:  # two classes
            known = np.column_stack([-known, known])
        known = np.exp(known - known.max(axis=1, keepdims=True))
        known /= known.sum(axis=1, keepdims=True)
    votes = np.zeros((len(codes), classes), np.float32)
    votes[:, estimator.classes_] = known
    return votes


def classic_named(name: str) -> Classic:
    """Return the classifier of this name. Raises `TinyTagsError` where there is none."""
    if name not in CLASSICS:
        raise TinyTagsError(f"classifier {name!r} is unknown; there are {', '.join(CLASSICS)}")
    return CLASSICS[name]


def versions() -> Mapping[str, str]:
    """Return the versions that a result depends on."""
    import sklearn

    return {"scikit-learn": sklearn.__version__, "numpy": np.__version__}
