"""Packs: every trial once, balanced ends, few starts."""

import random

from raysweep.planning.grid import Trial
from raysweep.planning.packs import Speed, makespan, plan
from raysweep.planning.plan import make_plan, speed_of
from raysweep.spec import Hyperparameters
from raysweep.store.files import Store


def trials(*seconds):
    fields = Hyperparameters()
    return [Trial(f"{i}", "c", {"seconds": s}, fields, 0) for i, s in enumerate(seconds)]


def cost(trial):
    return trial.point["seconds"]


def test_every_trial_is_in_exactly_one_pack():
    rng = random.Random(0)
    for _ in range(50):
        some = trials(*[rng.expovariate(1) for _ in range(rng.randint(0, 40))])
        packs = plan(some, cost, slots=rng.randint(1, 9), start_s=rng.choice([0, 0.2, 8]))
        assert sorted(t.trial_id for pack in packs for t in pack) == sorted(
            t.trial_id for t in some
        )
        assert all(packs)


def test_no_slot_stays_empty_while_there_are_trials():
    assert len(plan(trials(*[1.0] * 8), cost, slots=4, start_s=1000)) == 4
    assert len(plan(trials(1.0, 1.0), cost, slots=4, start_s=1000)) == 2


def test_long_trials_are_packs_of_their_own():
    packs = plan(trials(*[3600.0] * 20), cost, slots=4, start_s=8)
    assert max(len(pack) for pack in packs[-16:]) == 1


def test_the_plan_ends_near_the_optimum_with_few_starts():
    rng = random.Random(1)
    some = trials(*[rng.choice([0.1, 0.4, 2.0]) for _ in range(480)])
    packs = plan(some, cost, slots=2, start_s=0.2)
    ideal = sum(map(cost, some)) / 2
    assert makespan(packs, cost, 2) <= 1.02 * ideal
    assert len(packs) <= 30


def test_a_trials_time_grows_with_steps_and_examples():
    speed = Speed(per_step=0.01, per_example=lambda fields: 0.001)
    small = Hyperparameters(epochs=2, batch_size=10, width=128, depth=2)
    assert speed.seconds(small, 100) == 2 * (10 * 0.01 + 100 * 0.001)


def test_a_larger_model_is_judged_to_take_longer(make_spec, tmp_path):
    made = make_plan(make_spec(axes={"width": [16, 2048], "depth": [1, 3]}), Store(tmp_path))
    speed = speed_of(made)
    seconds = [speed.seconds(trial.hyperparameters, made.n_train) for trial in made.trials]
    shapes = [(t.hyperparameters.width, t.hyperparameters.depth) for t in made.trials]
    by_shape = dict(zip(shapes, seconds, strict=True))
    assert by_shape[16, 1] < by_shape[16, 3] < by_shape[2048, 1] < by_shape[2048, 3]
    assert by_shape[2048, 3] > 10 * by_shape[16, 3]
