set(work ${build}/package-test)
file(REMOVE_RECURSE ${work})

# run(COMMAND ...) shows what a command printed only when it fails.
function(run)
  execute_process(${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(result)
    message(FATAL_ERROR "${ARGN}: ${result}\n${output}")
  endif()
endfunction()

run(COMMAND ${CMAKE_COMMAND} --install ${build} --prefix ${work}/prefix --config ${config})
run(COMMAND ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/consumer -B ${work}/consumer
  -G ${generator} -D CMAKE_CXX_COMPILER=${compiler} -D CMAKE_BUILD_TYPE=${config}
  -D CMAKE_PREFIX_PATH=${work}/prefix)
run(COMMAND ${CMAKE_COMMAND} --build ${work}/consumer)
run(COMMAND ${work}/consumer/consumer)
