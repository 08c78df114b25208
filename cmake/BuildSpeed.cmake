# Uses what makes the build quick, where it is installed: ccache and the linker mold.

find_program(CCOE_CCACHE ccache)
if(CCOE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCOE_CCACHE})
endif()

find_program(CCOE_MOLD mold)
if(CCOE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()
