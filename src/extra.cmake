# The schema data file is embedded by the assembler, so the object depends on it.
set_source_files_properties(ops/schema.cpp PROPERTIES
  COMPILE_DEFINITIONS "TOROID_SCHEMA_FILE=\"${PROJECT_SOURCE_DIR}/data/aten_schemas.txt\""
  OBJECT_DEPENDS "${PROJECT_SOURCE_DIR}/data/aten_schemas.txt")

if(TARGET toroid_driver)
  # What is linked into every model lies inside libtoroid.
  set(model_parts ${PROJECT_BINARY_DIR}/lib/toroid/model_abi.o ${PROJECT_BINARY_DIR}/lib/toroid/library.o
      ${PROJECT_BINARY_DIR}/lib/toroid/model.map)
  set_source_files_properties(driver/model_parts.cpp PROPERTIES
    COMPILE_DEFINITIONS "TOROID_MODEL_ABI_FILE=\"${PROJECT_BINARY_DIR}/lib/toroid/model_abi.o\";TOROID_MODEL_LIBRARY_FILE=\"${PROJECT_BINARY_DIR}/lib/toroid/library.o\";TOROID_MODEL_MAP_FILE=\"${PROJECT_BINARY_DIR}/lib/toroid/model.map\""
    OBJECT_DEPENDS "${model_parts}")
  add_dependencies(toroid_driver toroid_model_abi)
endif()
