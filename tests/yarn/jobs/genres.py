"""What the job's tasks do with a rating, a movie and a genre; comes to the executors by --py-files."""


def rating(line):
    """movie and rating of `user,movie,rating`; nothing of the heading."""
    _, movie, stars = line.split(",")
    return [] if movie == "movie" else [(int(movie), float(stars))]


def movie(line):
    """movie and genres of `movie,title,genre|genre`; nothing of the heading."""
    number, _, genres = line.split(",")
    return [] if number == "movie" else [(int(number), tuple(genres.split("|")))]


def by_genre(joined):
    """A rating for each genre of the movie that it is of."""
    _, (stars, genres) = joined
    return [(genre, stars) for genre in genres]


def add(total, stars):
    """One rating more: sum and number."""
    return total[0] + stars, total[1] + 1


def merge(one, other):
    """The sum and the number of both."""
    return one[0] + other[0], one[1] + other[1]


def line(genre_and_total):
    """A line of the result. Ratings are halves: sums of them are exact, in whatever order."""
    genre, (total, number) = genre_and_total
    return f"{genre},{number},{total / number:.6f}"
