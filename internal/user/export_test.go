package user

// SearchQueries are the statements whose plans a test pins.
var SearchQueries = struct{ ByPrefix, NearWords, SimilarWords string }{byPrefixSQL, nearWordsSQL, similarWordsSQL}
