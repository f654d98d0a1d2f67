"""The fields of documents of annotations: images with their labels, and relations; `conf/solr/annotations/schema.xml` agrees."""

from indexing.fields import SOLR_FIELDS, Field

ANNOTATION_FIELDS = (
    Field("id", "string", "Of an image its own id, of a relation also its number among those of its image."),
    Field("partition", "int", "The partition of the annotations, from 0.", minimum=0),
    Field("classes", "strings", "Classes that people verified as present."),
    Field("absent", "strings", "Classes that people verified as absent."),
    Field("machine", "strings", "Classes that a model gives: CONFIDENCE CLASS.", indexed=False),
    Field("sources", "strings", "Where the labels come from."),
    Field("relations", "strings", "The types of the image's relations."),
    Field("image", "string", "The image of a relation."),
    Field("class1", "string", "The first class of a relation."),
    Field("relation", "string", "The type of a relation."),
    Field("class2", "string", "The second class, or an attribute."),
    Field("lower1", "string", "The name of the first class in lower case."),
    Field("lower_relation", "string", "The type in lower case."),
    Field("lower2", "string", "The name of the second class in lower case."),
)

# The fields of the documents in a collection, by its configset.
COLLECTION_FIELDS = {"tags": SOLR_FIELDS, "annotations": ANNOTATION_FIELDS}
# What Solr returns of a hit, for its parameter fl.
ANNOTATION_NAMES = ",".join(field.name for field in ANNOTATION_FIELDS)
