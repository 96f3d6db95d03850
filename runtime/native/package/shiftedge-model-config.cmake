# find_package(shiftedge-model CONFIG REQUIRED PATHS /path/of/this/bundle)
# target_link_libraries(mine PRIVATE shiftedge::model)
#
# Of the variants in lib/ SHIFTEDGE_VARIANT chooses one: @VARIANTS@. Left out: @DEFAULT@, which
# every processor of the target can run.
get_filename_component(_shiftedge_bundle "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT DEFINED SHIFTEDGE_VARIANT)
  set(SHIFTEDGE_VARIANT "@DEFAULT@")
endif()
set(_shiftedge_folder "${_shiftedge_bundle}/lib/${SHIFTEDGE_VARIANT}")
if(NOT EXISTS "${_shiftedge_folder}/libmodel.so")
  set(shiftedge-model_FOUND FALSE)
  set(shiftedge-model_NOT_FOUND_MESSAGE
      "SHIFTEDGE_VARIANT is ${SHIFTEDGE_VARIANT}; this bundle has @VARIANTS@.")
  return()
endif()
if(NOT TARGET shiftedge::model)
  add_library(shiftedge::model SHARED IMPORTED)
  # The link to it that bears its SONAME.
  file(GLOB _shiftedge_link RELATIVE "${_shiftedge_folder}" "${_shiftedge_folder}/libmodel-*.so")
  set_target_properties(shiftedge::model PROPERTIES
    IMPORTED_LOCATION "${_shiftedge_folder}/libmodel.so"
    IMPORTED_SONAME "${_shiftedge_link}"
    INTERFACE_INCLUDE_DIRECTORIES "${_shiftedge_bundle}/include")
endif()
