"""Writes the *generated* ratings and movies of the demo's second job: same bytes on every machine.

    ratings.py DIR [RATINGS]

The numbers are made, not collected: 5,000 movies with one to three of twelve genres, ratings from
0.5 to 5.0 whose mean depends on the genre, from Python's Mersenne Twister with a fixed seed.
"""

import pathlib
import random
import sys

SEED = 20161121
MOVIES = 5_000
USERS = 40_000
RATINGS = 1_500_000
GENRES = (
    "Action", "Adventure", "Animation", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Horror", "Romance", "Thriller", "Western",
)  # fmt: skip


def write(directory, rating_count=RATINGS):
    """movies.csv and ratings.csv in `directory`, replaced only when complete."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    dice = random.Random(SEED)
    tendency = {genre: 2.4 + 0.15 * place for place, genre in enumerate(GENRES)}
    means = []
    with open(directory / "movies.csv.part", "w", encoding="utf-8") as out:
        out.write("movie,title,genres\n")
        for movie in range(MOVIES):
            genres = dice.sample(GENRES, dice.randint(1, 3))
            means.append(sum(tendency[genre] for genre in genres) / len(genres))
            out.write(f"{movie},Generated Movie {movie},{'|'.join(genres)}\n")
    with open(directory / "ratings.csv.part", "w", encoding="utf-8") as out:
        out.write("user,movie,rating\n")
        for _ in range(rating_count):
            movie = int(dice.random() ** 2 * MOVIES)  # some movies are seen by many
            half_stars = min(10, max(1, round(2 * (means[movie] + dice.uniform(-1.5, 1.5)))))
            out.write(f"{int(dice.random() * USERS)},{movie},{half_stars / 2}\n")
    for name in ("movies.csv", "ratings.csv"):
        (directory / f"{name}.part").replace(directory / name)


if __name__ == "__main__":
    write(sys.argv[1], *map(int, sys.argv[2:]))
