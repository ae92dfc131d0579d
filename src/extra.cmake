# The schema data file is embedded by the assembler, so the object depends on it.
set_source_files_properties(ops/schema.cpp PROPERTIES
  COMPILE_DEFINITIONS "TOROID_SCHEMA_FILE=\"${PROJECT_SOURCE_DIR}/data/aten_schemas.txt\""
  OBJECT_DEPENDS "${PROJECT_SOURCE_DIR}/data/aten_schemas.txt")
